-- How a secret may be used: slots, rules, kind and reveal, as the core type `Uses` serialises. Values that were
-- sealed before stood in headers and were never revealed.
ALTER TABLE secrets ADD COLUMN uses TEXT NOT NULL CHECK (json_valid(uses))
  DEFAULT '{"slots":["header"],"rules":[],"kind":"value","reveal":"never"}';
ALTER TABLE secrets DROP COLUMN reveal;
