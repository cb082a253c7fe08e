-- What the egress refused to one request.
CREATE INDEX audit_refusals ON audit (request_id) WHERE kind = 'egress_refused';
