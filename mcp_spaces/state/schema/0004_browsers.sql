-- Browser runtimes: how each was launched, and the profiles that outlive them. A profile's state (cookies, local
-- storage) is sealed before it gets here.

CREATE TABLE browsers (
  runtime_id TEXT PRIMARY KEY REFERENCES runtimes(id) ON DELETE CASCADE,
  options TEXT NOT NULL
) STRICT;

CREATE TABLE browser_profiles (
  space_id TEXT NOT NULL REFERENCES spaces(id) ON DELETE CASCADE,
  name TEXT NOT NULL,
  sealed BLOB NOT NULL,
  updated_at REAL NOT NULL,
  PRIMARY KEY (space_id, name)
) STRICT;
