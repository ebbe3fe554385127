-- The vault. What is sealed was encrypted before it got here; `body` holds names and dates only.
-- The MACs are made with a key that is derived from the data key, so they cannot be made from the database alone.

CREATE TABLE vault_master (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  vault_id TEXT NOT NULL,
  body TEXT NOT NULL
) STRICT;

CREATE TABLE vault_keys (
  id TEXT PRIMARY KEY,
  master_id TEXT NOT NULL,
  wrapped BLOB NOT NULL,
  created_at REAL NOT NULL
) STRICT;

CREATE TABLE vault_entries (
  path TEXT PRIMARY KEY,
  version INTEGER NOT NULL,
  body TEXT NOT NULL,
  mac BLOB NOT NULL
) STRICT;

CREATE TABLE vault_versions (
  path TEXT NOT NULL REFERENCES vault_entries(path) ON DELETE CASCADE,
  version INTEGER NOT NULL,
  key_id TEXT NOT NULL REFERENCES vault_keys(id),
  body TEXT NOT NULL,
  sealed BLOB NOT NULL,
  created_at REAL NOT NULL,
  PRIMARY KEY (path, version)
) STRICT;
CREATE INDEX vault_versions_by_key ON vault_versions(key_id);

CREATE TABLE vault_uses (
  path TEXT PRIMARY KEY REFERENCES vault_entries(path) ON DELETE CASCADE,
  body TEXT NOT NULL,
  mac BLOB NOT NULL
) STRICT;

CREATE TABLE vault_index (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  generation INTEGER NOT NULL,
  mac BLOB NOT NULL
) STRICT;

CREATE INDEX audit_of_vault ON audit(seq) WHERE kind = 'vault';
