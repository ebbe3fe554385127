-- Certificate authorities of spaces. `sealed` is the private key, encrypted by the vault before it got here.

CREATE TABLE space_authorities (
  space_id TEXT PRIMARY KEY REFERENCES spaces(id) ON DELETE CASCADE,
  certificate BLOB NOT NULL,
  sealed BLOB NOT NULL
) STRICT;
