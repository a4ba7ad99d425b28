-- Times are nanoseconds since 1970 in UTC; NULL is the zero time. Addresses are 16 bytes big-endian, IPv4 mapped into IPv6 (RFC 4291
-- §2.5.5.2), so that bytes compare as addresses do; columns that end in _text are for people who look and are never read.

CREATE TABLE network (
  id             INTEGER PRIMARY KEY CHECK (id = 1),
  generation     INTEGER NOT NULL CHECK (generation >= 0),
  range_revision INTEGER NOT NULL
) STRICT;

INSERT INTO network VALUES (1, 0, 0);

CREATE TRIGGER network_stays BEFORE DELETE ON network
BEGIN
  SELECT RAISE(ABORT, 'towpath.fixed: the network row stays');
END;

CREATE TRIGGER network_generation_rises BEFORE UPDATE ON network WHEN NEW.generation < OLD.generation
BEGIN
  SELECT RAISE(ABORT, 'towpath.fixed: the generation never falls');
END;

CREATE TABLE settings (
  key   TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE sites (
  id       TEXT PRIMARY KEY,
  name     TEXT NOT NULL UNIQUE,
  kind     TEXT NOT NULL,
  title    TEXT NOT NULL,
  endpoint TEXT NOT NULL,
  created  INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE nodes (
  id           TEXT PRIMARY KEY,
  site         TEXT NOT NULL REFERENCES sites (id),
  kind         TEXT NOT NULL,
  name         TEXT NOT NULL,
  public_key   BLOB NOT NULL UNIQUE CHECK (length(public_key) = 32),
  state        TEXT NOT NULL CHECK (state IN ('', 'waiting', 'quarantined')),
  reason       TEXT NOT NULL,
  since        INTEGER,
  rotate       TEXT NOT NULL CHECK (rotate IN ('', 'make', 'wait', 'turn')),
  next_key     BLOB UNIQUE CHECK (length(next_key) = 32 AND next_key <> public_key),
  member       TEXT NOT NULL CHECK (json_valid(member)),
  origin       TEXT NOT NULL,
  address      BLOB NOT NULL UNIQUE CHECK (length(address) = 16),
  address_text TEXT NOT NULL,
  former       BLOB UNIQUE CHECK (length(former) = 16 AND former <> address),
  former_text  TEXT NOT NULL,
  facts        TEXT NOT NULL CHECK (json_valid(facts)),
  enrolled     INTEGER,
  last_seen    INTEGER,
  applied      INTEGER NOT NULL,
  apply_error  TEXT NOT NULL,
  conditions   TEXT NOT NULL CHECK (json_valid(conditions)),
  queues       TEXT NOT NULL CHECK (json_valid(queues))
) STRICT, WITHOUT ROWID;

CREATE INDEX nodes_site ON nodes (site);
CREATE UNIQUE INDEX nodes_name ON nodes (site, name) WHERE name <> '';

CREATE TABLE tokens (
  id      TEXT PRIMARY KEY,
  site    TEXT NOT NULL REFERENCES sites (id) ON DELETE CASCADE,
  kind    TEXT NOT NULL,
  hash    BLOB NOT NULL CHECK (length(hash) = 32),
  address BLOB CHECK (length(address) = 16),
  address_text TEXT NOT NULL,
  created INTEGER,
  expires INTEGER,
  use_limit INTEGER NOT NULL CHECK (use_limit >= 1),
  uses    TEXT NOT NULL CHECK (json_array_length(uses) <= use_limit),
  approval INTEGER NOT NULL CHECK (approval IN (0, 1)),
  replaces TEXT NOT NULL,
  revoked INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX tokens_site ON tokens (site);

CREATE TABLE services (
  id       TEXT PRIMARY KEY,
  site     TEXT NOT NULL REFERENCES sites (id),
  name     TEXT NOT NULL UNIQUE,
  protocol TEXT NOT NULL,
  ae_title TEXT NOT NULL,
  receiver TEXT NOT NULL,
  mode     TEXT NOT NULL,
  target   TEXT NOT NULL,
  port     INTEGER NOT NULL CHECK (port BETWEEN 1 AND 65535),
  address  BLOB UNIQUE CHECK (length(address) = 16),
  address_text TEXT NOT NULL,
  created  INTEGER,
  UNIQUE (site, port)
) STRICT, WITHOUT ROWID;

-- An address is given once: to a node, be it as its address or as its former one, or to a service.
CREATE TRIGGER nodes_address BEFORE INSERT ON nodes
WHEN EXISTS (SELECT 1 FROM nodes WHERE former = NEW.address AND id <> NEW.id)
  OR EXISTS (SELECT 1 FROM nodes WHERE address = NEW.former AND id <> NEW.id)
  OR EXISTS (SELECT 1 FROM services WHERE address IN (NEW.address, NEW.former))
BEGIN
  SELECT RAISE(ABORT, 'towpath.exists: the address is given already');
END;

CREATE TRIGGER nodes_readdress BEFORE UPDATE OF address, former ON nodes
WHEN EXISTS (SELECT 1 FROM nodes WHERE former = NEW.address AND id <> OLD.id)
  OR EXISTS (SELECT 1 FROM nodes WHERE address = NEW.former AND id <> OLD.id)
  OR EXISTS (SELECT 1 FROM services WHERE address IN (NEW.address, NEW.former))
BEGIN
  SELECT RAISE(ABORT, 'towpath.exists: the address is given already');
END;

CREATE TRIGGER services_address BEFORE INSERT ON services
WHEN EXISTS (SELECT 1 FROM nodes WHERE address = NEW.address OR former = NEW.address)
BEGIN
  SELECT RAISE(ABORT, 'towpath.exists: the address is given already');
END;

CREATE TRIGGER services_readdress BEFORE UPDATE OF address ON services
WHEN EXISTS (SELECT 1 FROM nodes WHERE address = NEW.address OR former = NEW.address)
BEGIN
  SELECT RAISE(ABORT, 'towpath.exists: the address is given already');
END;

CREATE TABLE grants (
  service  TEXT NOT NULL REFERENCES services (id),
  site     TEXT NOT NULL REFERENCES sites (id),
  lan_port INTEGER NOT NULL CHECK (lan_port BETWEEN 1 AND 65535),
  created  INTEGER,
  PRIMARY KEY (service, site)
) STRICT, WITHOUT ROWID;

CREATE INDEX grants_site ON grants (site);

-- The audit trail only grows. Each entry names the hash of the one before, and the database refuses any other; whether the hash fits
-- the entry is for the program to verify.
CREATE TABLE events (
  seq     INTEGER PRIMARY KEY,
  at      INTEGER NOT NULL,
  actor   TEXT NOT NULL,
  action  TEXT NOT NULL,
  subject TEXT NOT NULL,
  detail  TEXT NOT NULL,
  prev    BLOB NOT NULL CHECK (length(prev) = 32),
  hash    BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;

CREATE TRIGGER events_chain BEFORE INSERT ON events
WHEN NEW.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM events)
  OR NEW.prev IS NOT coalesce((SELECT hash FROM events ORDER BY seq DESC LIMIT 1), zeroblob(32))
BEGIN
  SELECT RAISE(ABORT, 'towpath.fixed: an event stands behind the last one');
END;

CREATE TRIGGER events_stay BEFORE UPDATE ON events
BEGIN
  SELECT RAISE(ABORT, 'towpath.fixed: events are append-only');
END;

CREATE TRIGGER events_remain BEFORE DELETE ON events
BEGIN
  SELECT RAISE(ABORT, 'towpath.fixed: events are append-only');
END;
