-- How the owner of a connection signs in; NULL: its key is a secret.
ALTER TABLE connections ADD COLUMN sign_in TEXT CHECK (sign_in IS NULL OR json_valid(sign_in));

-- One sign-in for each connection: everything about it in the clear but its tokens.
CREATE TABLE sign_ins (
  connection TEXT PRIMARY KEY,
  version INTEGER NOT NULL,
  record TEXT NOT NULL CHECK (json_valid(record)),
  sealed BLOB NOT NULL,
  used_at INTEGER
) STRICT, WITHOUT ROWID;
