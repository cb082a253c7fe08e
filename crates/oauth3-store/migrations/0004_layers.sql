-- What skills import from elsewhere, as one archive of files for each set, once per digest.
CREATE TABLE layers (
  digest TEXT PRIMARY KEY,
  bytes BLOB NOT NULL
) STRICT, WITHOUT ROWID;
