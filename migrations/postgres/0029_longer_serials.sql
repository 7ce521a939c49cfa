-- Serial numbers of backends that sign leaves themselves have up to 20 bytes (RFC 5280 section 4.1.2.2), ours 16.
ALTER TABLE audit_event DROP CONSTRAINT audit_event_serial_check;
ALTER TABLE audit_event ADD CONSTRAINT audit_event_serial_check CHECK (octet_length(serial) BETWEEN 16 AND 20) NOT VALID;

-- A program of before reads such events as they are.
INSERT INTO schema_reader (version, oldest_reader) VALUES (29, 24);
