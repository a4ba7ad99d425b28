-- Times are nanoseconds since 1970 in UTC, because timestamptz would round them; NULL is the zero time. Text is compared by its bytes
-- (COLLATE "C"), so that the order is the same on every server and no update of its locales breaks an index. A NUL, a backslash and
-- bytes that are no UTF-8 are written as \x00, \\ and \xff. Everything lives in the schema of the connection's search_path, and every
-- function keeps that path, whoever calls it.

CREATE TABLE network (
  id             integer PRIMARY KEY CHECK (id = 1),
  generation     bigint NOT NULL CHECK (generation >= 0),
  range_revision bigint NOT NULL,
  range_writer   xid8
);

INSERT INTO network VALUES (1, 0, 0, NULL);

CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
  RAISE EXCEPTION '%', TG_ARGV[0] USING ERRCODE = 'restrict_violation';
END $$;

CREATE TRIGGER network_stays BEFORE DELETE OR TRUNCATE ON network
FOR EACH STATEMENT EXECUTE FUNCTION refuse('the network row stays');

CREATE TRIGGER network_generation_rises BEFORE UPDATE ON network
FOR EACH ROW WHEN (NEW.generation < OLD.generation) EXECUTE FUNCTION refuse('the generation never falls');

-- Tells every replica. The channel has the name of the schema; the text is the generation and nothing else.
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
  PERFORM pg_notify(TG_TABLE_SCHEMA, NEW.generation::text);
  RETURN NULL;
END $$;

CREATE TRIGGER network_tells AFTER UPDATE ON network
FOR EACH ROW WHEN (NEW.generation > OLD.generation) EXECUTE FUNCTION tell();

CREATE TABLE settings (
  key   text COLLATE "C" PRIMARY KEY,
  value text COLLATE "C" NOT NULL
);

CREATE TABLE sites (
  id       text COLLATE "C" PRIMARY KEY,
  name     text COLLATE "C" NOT NULL UNIQUE,
  kind     text COLLATE "C" NOT NULL,
  title    text COLLATE "C" NOT NULL,
  endpoint text COLLATE "C" NOT NULL,
  created  bigint
);

CREATE TABLE nodes (
  id          text COLLATE "C" PRIMARY KEY,
  site        text COLLATE "C" NOT NULL REFERENCES sites (id),
  kind        text COLLATE "C" NOT NULL,
  name        text COLLATE "C" NOT NULL,
  public_key  bytea NOT NULL UNIQUE CHECK (length(public_key) = 32),
  state       text COLLATE "C" NOT NULL CHECK (state IN ('', 'waiting', 'quarantined')),
  reason      text COLLATE "C" NOT NULL,
  since       bigint,
  rotate      text COLLATE "C" NOT NULL CHECK (rotate IN ('', 'make', 'wait', 'turn')),
  next_key    bytea UNIQUE CHECK (length(next_key) = 32 AND next_key <> public_key),
  member      json NOT NULL,
  origin      text COLLATE "C" NOT NULL,
  address     inet NOT NULL UNIQUE CHECK (masklen(address) = CASE family(address) WHEN 4 THEN 32 ELSE 128 END),
  former      inet UNIQUE CHECK (masklen(former) = CASE family(former) WHEN 4 THEN 32 ELSE 128 END AND former <> address),
  facts       json NOT NULL,
  enrolled    bigint,
  last_seen   bigint,
  applied     bigint NOT NULL,
  apply_error text COLLATE "C" NOT NULL,
  conditions  json NOT NULL,
  queues      json NOT NULL
);

CREATE INDEX nodes_site ON nodes (site);
CREATE UNIQUE INDEX nodes_name ON nodes (site, name) WHERE name <> '';

CREATE TABLE tokens (
  id      text COLLATE "C" PRIMARY KEY,
  site    text COLLATE "C" NOT NULL REFERENCES sites (id) ON DELETE CASCADE,
  kind    text COLLATE "C" NOT NULL,
  hash    bytea NOT NULL CHECK (length(hash) = 32),
  address inet CHECK (masklen(address) = CASE family(address) WHEN 4 THEN 32 ELSE 128 END),
  created bigint,
  expires bigint,
  use_limit integer NOT NULL CHECK (use_limit >= 1),
  uses    jsonb NOT NULL CHECK (jsonb_array_length(uses) <= use_limit),
  approval boolean NOT NULL,
  replaces text COLLATE "C" NOT NULL,
  revoked bigint
);

CREATE INDEX tokens_site ON tokens (site);

CREATE TABLE services (
  id       text COLLATE "C" PRIMARY KEY,
  site     text COLLATE "C" NOT NULL REFERENCES sites (id),
  name     text COLLATE "C" NOT NULL UNIQUE,
  protocol text COLLATE "C" NOT NULL,
  ae_title text COLLATE "C" NOT NULL,
  receiver text COLLATE "C" NOT NULL,
  mode     text COLLATE "C" NOT NULL,
  target   text COLLATE "C" NOT NULL,
  port     integer NOT NULL CHECK (port BETWEEN 1 AND 65535),
  address  inet UNIQUE CHECK (masklen(address) = CASE family(address) WHEN 4 THEN 32 ELSE 128 END),
  created  bigint,
  UNIQUE (site, port)
);

-- Every address that is given, to a node, be it as its address or as its former one, or to a service: the primary key lets each be given
-- once, against transactions that have not committed yet too. Triggers of nodes and services keep it, and nobody else may.
CREATE TABLE addresses (
  address inet PRIMARY KEY,
  node    text COLLATE "C" REFERENCES nodes (id) ON DELETE CASCADE,
  service text COLLATE "C" REFERENCES services (id) ON DELETE CASCADE,
  CHECK (num_nonnulls(node, service) = 1)
);

CREATE INDEX addresses_node ON addresses (node) WHERE node IS NOT NULL;
CREATE INDEX addresses_service ON addresses (service) WHERE service IS NOT NULL;

CREATE FUNCTION nodes_addresses() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
  DELETE FROM addresses WHERE node = NEW.id;
  INSERT INTO addresses (address, node) SELECT a, NEW.id FROM unnest(ARRAY[NEW.address, NEW.former]) AS a WHERE a IS NOT NULL;
  RETURN NULL;
END $$;

CREATE TRIGGER nodes_addresses AFTER INSERT OR UPDATE OF address, former ON nodes FOR EACH ROW EXECUTE FUNCTION nodes_addresses();

CREATE FUNCTION services_addresses() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
  DELETE FROM addresses WHERE service = NEW.id;
  INSERT INTO addresses (address, service) SELECT NEW.address, NEW.id WHERE NEW.address IS NOT NULL;
  RETURN NULL;
END $$;

CREATE TRIGGER services_addresses AFTER INSERT OR UPDATE OF address ON services FOR EACH ROW EXECUTE FUNCTION services_addresses();

CREATE TRIGGER addresses_kept BEFORE INSERT OR UPDATE OR DELETE ON addresses
FOR EACH STATEMENT WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION refuse('addresses are written by nodes and services only');

CREATE TRIGGER addresses_stay BEFORE TRUNCATE ON addresses
FOR EACH STATEMENT EXECUTE FUNCTION refuse('addresses are written by nodes and services only');

CREATE TABLE grants (
  service  text COLLATE "C" NOT NULL REFERENCES services (id),
  site     text COLLATE "C" NOT NULL REFERENCES sites (id),
  lan_port integer NOT NULL CHECK (lan_port BETWEEN 1 AND 65535),
  created  bigint,
  PRIMARY KEY (service, site)
);

CREATE INDEX grants_site ON grants (site);

-- The audit trail only grows. Each entry names the hash of the one before, and the database refuses any other; whether the hash fits
-- the entry is for the program to verify. Of two transactions that append at once, the primary key lets one pass.
CREATE TABLE events (
  seq     bigint PRIMARY KEY CHECK (seq > 0),
  at      bigint NOT NULL,
  actor   text COLLATE "C" NOT NULL,
  action  text COLLATE "C" NOT NULL,
  subject text COLLATE "C" NOT NULL,
  detail  text COLLATE "C" NOT NULL,
  prev    bytea NOT NULL CHECK (length(prev) = 32),
  hash    bytea NOT NULL CHECK (length(hash) = 32)
);

CREATE FUNCTION events_chain() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
  last events;
BEGIN
  SELECT * INTO last FROM events ORDER BY seq DESC LIMIT 1;
  IF NEW.seq IS DISTINCT FROM coalesce(last.seq, 0) + 1
    OR NEW.prev IS DISTINCT FROM coalesce(last.hash, decode(repeat('00', 32), 'hex')) THEN
    RAISE EXCEPTION 'an event stands behind the last one' USING ERRCODE = 'restrict_violation';
  END IF;
  RETURN NEW;
END $$;

CREATE TRIGGER events_chain BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION events_chain();

CREATE TRIGGER events_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON events
FOR EACH STATEMENT EXECUTE FUNCTION refuse('events are append-only');
