-- How large each set of imports is, and which was used last: the largest number. Apart from the bytes, which are not to
-- be written again with each use.
CREATE TABLE layer_uses (
  digest TEXT PRIMARY KEY,
  bytes INTEGER NOT NULL,
  used INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO layer_uses (digest, bytes, used) SELECT digest, length(bytes), 0 FROM layers;
