-- The operator's PIN, as a sealed hash: one row, or none.

CREATE TABLE pins (
  id TEXT PRIMARY KEY,
  body TEXT NOT NULL,
  mac BLOB NOT NULL
) STRICT;
