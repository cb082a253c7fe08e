-- APIs that agents call through the proxy.
ALTER TABLE agents ADD COLUMN tags TEXT NOT NULL CHECK (json_valid(tags)) DEFAULT '[]';

-- Which secrets are keys of which API, and for whom: one agent, agents with a tag, or everybody.
CREATE TABLE api_keys (
  id INTEGER PRIMARY KEY,
  api TEXT NOT NULL,
  secret TEXT NOT NULL,
  agent TEXT,
  tag TEXT,
  created_at INTEGER NOT NULL,
  UNIQUE (api, secret),
  CHECK (agent IS NULL OR tag IS NULL)
) STRICT;

CREATE TABLE connections (
  api TEXT PRIMARY KEY,
  base_url TEXT NOT NULL,
  place TEXT NOT NULL CHECK (json_valid(place)),
  rules TEXT NOT NULL CHECK (json_valid(rules)),
  created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Sums of calls. `grant_id` is empty for calls under a verdict of their own, `model` for those that name none.
CREATE TABLE usage (
  day INTEGER NOT NULL,
  agent TEXT NOT NULL,
  api TEXT NOT NULL,
  model TEXT NOT NULL,
  grant_id TEXT NOT NULL,
  calls INTEGER NOT NULL,
  failed INTEGER NOT NULL,
  estimated INTEGER NOT NULL,
  tokens_in INTEGER NOT NULL,
  tokens_out INTEGER NOT NULL,
  micro_usd INTEGER NOT NULL,
  millis INTEGER NOT NULL,
  PRIMARY KEY (day, agent, api, model, grant_id)
) STRICT, WITHOUT ROWID;
