-- Times are milliseconds since the Unix epoch. JSON columns hold what the named core type serialises to.

CREATE TABLE agents (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  token_id TEXT NOT NULL UNIQUE,
  token_hash TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  rotated_at INTEGER,
  revoked_at INTEGER,
  last_seen_at INTEGER
) STRICT;

CREATE TABLE secrets (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  hosts TEXT NOT NULL CHECK (json_valid(hosts)),
  reveal INTEGER NOT NULL CHECK (reveal IN (0, 1)),
  version INTEGER NOT NULL CHECK (version > 0),
  encrypted_value BLOB NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
) STRICT;

-- Standing grants. A verdict of "once" leaves none.
CREATE TABLE approvals (
  id INTEGER PRIMARY KEY,
  grant_id TEXT NOT NULL UNIQUE,
  agent TEXT NOT NULL,
  skill_id TEXT NOT NULL,
  code_hash TEXT NOT NULL,
  intent_digest TEXT NOT NULL,
  intent TEXT NOT NULL CHECK (json_valid(intent)),
  trust_level TEXT NOT NULL CHECK (trust_level IN ('24h', 'forever')),
  approved_at INTEGER NOT NULL,
  approved_by TEXT NOT NULL,
  expires_at INTEGER CHECK ((expires_at IS NULL) = (trust_level = 'forever')),
  revoked_at INTEGER
) STRICT;
CREATE INDEX approvals_by_intent ON approvals (intent_digest);

-- The bytes that run, once per digest.
CREATE TABLE code (
  code_hash TEXT PRIMARY KEY,
  bytes BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE executions (
  id INTEGER PRIMARY KEY,
  request_id TEXT NOT NULL UNIQUE,
  agent TEXT NOT NULL,
  skill_id TEXT NOT NULL,
  code_hash TEXT NOT NULL REFERENCES code (code_hash),
  intent_digest TEXT NOT NULL,
  intent TEXT NOT NULL CHECK (json_valid(intent)),
  description TEXT NOT NULL,
  skill_url TEXT,
  args TEXT NOT NULL CHECK (json_valid(args)),
  status TEXT NOT NULL CHECK (status IN ('pending', 'awaiting_secrets', 'approved', 'executing', 'success',
    'failed', 'denied', 'expired', 'cancelled')),
  trust_level TEXT CHECK (trust_level IN ('once', '24h', 'forever')),
  grant_id TEXT,
  trusted INTEGER NOT NULL CHECK (trusted IN (0, 1)),
  decided_by TEXT,
  created_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  approved_at INTEGER,
  executed_at INTEGER,
  finished_at INTEGER,
  duration_ms INTEGER,
  result TEXT CHECK (json_valid(result)),
  error TEXT,
  notified_at INTEGER
) STRICT;
CREATE INDEX executions_by_status ON executions (status);
CREATE INDEX executions_open_by_agent ON executions (agent) WHERE status IN ('pending', 'awaiting_secrets');
CREATE INDEX executions_unnotified ON executions (id)
  WHERE notified_at IS NULL AND status IN ('success', 'failed', 'denied', 'expired', 'cancelled');

-- What is final stays final, whoever asks.
CREATE TRIGGER executions_final BEFORE UPDATE OF status ON executions
WHEN OLD.status IN ('success', 'failed', 'denied', 'expired', 'cancelled') AND NEW.status <> OLD.status
BEGIN
  SELECT RAISE(ABORT, 'a final status never changes');
END;

-- Each row's mac covers the row and the mac before it; the key is the keeper's.
CREATE TABLE audit (
  seq INTEGER PRIMARY KEY,
  at INTEGER NOT NULL,
  kind TEXT NOT NULL,
  actor TEXT NOT NULL,
  request_id TEXT,
  agent TEXT,
  detail TEXT NOT NULL,
  mac TEXT NOT NULL
) STRICT;

CREATE TABLE settings (
  name TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Channels' own notes, such as which message shows which request.
CREATE TABLE notes (
  channel TEXT NOT NULL,
  key TEXT NOT NULL,
  value TEXT NOT NULL CHECK (json_valid(value)),
  PRIMARY KEY (channel, key)
) STRICT, WITHOUT ROWID;
