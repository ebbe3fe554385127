-- Rows that grant something carry `body` (JSON, the truth) and `mac` (over table, id and body).
-- The columns beside them are there to be searched.

CREATE TABLE settings (
  name TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT;

CREATE TABLE principals (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  body TEXT NOT NULL,
  mac BLOB NOT NULL
) STRICT;

CREATE TABLE keys (
  id TEXT PRIMARY KEY,
  principal_id TEXT NOT NULL REFERENCES principals(id),
  body TEXT NOT NULL,
  mac BLOB NOT NULL
) STRICT;

CREATE TABLE spaces (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  owner_id TEXT NOT NULL REFERENCES principals(id),
  state TEXT NOT NULL,
  expires_at REAL,
  body TEXT NOT NULL,
  mac BLOB NOT NULL
) STRICT;
CREATE INDEX spaces_by_owner ON spaces(owner_id, name);
CREATE INDEX spaces_by_name ON spaces(name);
CREATE INDEX spaces_expiring ON spaces(expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE runtimes (
  id TEXT PRIMARY KEY,
  space_id TEXT NOT NULL REFERENCES spaces(id) ON DELETE CASCADE,
  kind TEXT NOT NULL,
  alias TEXT NOT NULL,
  state TEXT NOT NULL,
  body TEXT NOT NULL,
  mac BLOB NOT NULL,
  UNIQUE (space_id, alias)
) STRICT;

-- No foreign keys: a record outlives what it is about.
CREATE TABLE runs (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  parent_id TEXT,
  operation TEXT NOT NULL,
  principal_id TEXT NOT NULL,
  space_id TEXT,
  runtime_id TEXT,
  state TEXT NOT NULL,
  decision TEXT,
  started_at REAL NOT NULL,
  ended_at REAL,
  input TEXT NOT NULL,
  outcome TEXT,
  error_code TEXT
) STRICT;
CREATE INDEX runs_by_space ON runs(space_id, seq);
CREATE INDEX runs_by_principal ON runs(principal_id, seq);
CREATE INDEX runs_by_time ON runs(principal_id, started_at);
CREATE INDEX runs_by_parent ON runs(parent_id, seq) WHERE parent_id IS NOT NULL;
CREATE INDEX runs_open ON runs(seq) WHERE ended_at IS NULL;

CREATE TABLE events (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  run_id TEXT NOT NULL,
  at REAL NOT NULL,
  type TEXT NOT NULL,
  body TEXT NOT NULL
) STRICT;
CREATE INDEX events_by_run ON events(run_id, seq);

CREATE TABLE artifacts (
  id TEXT PRIMARY KEY,
  run_id TEXT NOT NULL,
  space_id TEXT NOT NULL,
  name TEXT NOT NULL,
  content_type TEXT NOT NULL,
  size_bytes INTEGER NOT NULL,
  blob TEXT NOT NULL,
  created_at REAL NOT NULL
) STRICT;
CREATE INDEX artifacts_by_run ON artifacts(run_id);
CREATE INDEX artifacts_by_space ON artifacts(space_id);
CREATE INDEX artifacts_by_blob ON artifacts(space_id, blob);

CREATE TABLE audit (
  seq INTEGER PRIMARY KEY,
  at REAL NOT NULL,
  kind TEXT NOT NULL,
  run_id TEXT NOT NULL,
  body TEXT NOT NULL,
  mac BLOB NOT NULL
) STRICT;

CREATE TABLE approvals (
  id TEXT PRIMARY KEY,
  fingerprint TEXT NOT NULL,
  principal_id TEXT NOT NULL,
  space_id TEXT,
  state TEXT NOT NULL,
  expires_at REAL NOT NULL,
  body TEXT NOT NULL,
  mac BLOB NOT NULL
) STRICT;
CREATE INDEX approvals_by_fingerprint ON approvals(fingerprint, state);
CREATE INDEX approvals_open ON approvals(space_id, state);

CREATE TABLE idempotency (
  principal_id TEXT NOT NULL,
  key TEXT NOT NULL,
  fingerprint TEXT NOT NULL,
  run_id TEXT NOT NULL,
  output TEXT,
  expires_at REAL NOT NULL,
  PRIMARY KEY (principal_id, key)
) STRICT;
CREATE INDEX idempotency_expiring ON idempotency(expires_at);

CREATE TABLE batches (
  id TEXT PRIMARY KEY,
  fingerprint TEXT NOT NULL UNIQUE,
  space_id TEXT NOT NULL REFERENCES spaces(id) ON DELETE CASCADE,
  body TEXT NOT NULL
) STRICT;

CREATE TABLE files (
  namespace TEXT NOT NULL,
  path TEXT NOT NULL,
  skeleton TEXT NOT NULL,
  blob TEXT NOT NULL,
  size_bytes INTEGER NOT NULL,
  version INTEGER NOT NULL,
  expires_at REAL,
  body TEXT NOT NULL,
  PRIMARY KEY (namespace, path),
  UNIQUE (namespace, skeleton)
) STRICT;
CREATE INDEX files_by_blob ON files(namespace, blob);
CREATE INDEX files_expiring ON files(expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE namespaces (
  name TEXT PRIMARY KEY,
  stored_bytes INTEGER NOT NULL DEFAULT 0,
  file_count INTEGER NOT NULL DEFAULT 0,
  changes INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE links (
  id TEXT PRIMARY KEY,
  namespace TEXT NOT NULL,
  expires_at REAL NOT NULL,
  body TEXT NOT NULL,
  mac BLOB NOT NULL
) STRICT;
CREATE INDEX links_by_namespace ON links(namespace);
CREATE INDEX links_expiring ON links(expires_at);
