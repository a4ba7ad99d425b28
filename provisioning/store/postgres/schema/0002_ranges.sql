-- The address plan, which cannot hold an overlap whatever the program believes. Its rules are exclusion constraints, one foreign key and
-- CHECKs. PostgreSQL enforces these against rows that other transactions have not committed yet, at every isolation level; no rule rests
-- on what a trigger read.
--
-- side and depth turn "which ranges exclude each other" into "which intervals overlap":
--
--	           side         depth
--	foreign    [-id,1-id)   all           ids are unique and positive: negative sides meet allocations only
--	reserved   [0,1)        all           meets reservations and allocations
--	lan        [id,id+1)    all           meets allocations and pools, none of its own
--	reported   [id,id+1)    all           the same
--	allocation (-∞,∞)       [length+1,∞)  meets all of these, other allocations, and the pools that are longer prefixes
--	pool       [1,∞)        [length]      meets pools of the same length
--
-- so that two rows are in conflict where prefix, side and depth all overlap. An IPv4 and an IPv6 prefix never do, and two prefixes of one
-- length do where they are equal.
CREATE TABLE ranges (
  id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY CHECK (id BETWEEN 1 AND 9223372036854775800),
  kind    text COLLATE "C" NOT NULL CHECK (kind IN ('pool', 'allocation', 'reserved', 'foreign', 'lan', 'reported')),
  -- IPv4 is never written as IPv6 (RFC 4291 §2.5.5.2): the two would not be seen to overlap.
  prefix  cidr NOT NULL CHECK (NOT prefix <<= '::ffff:0:0/96'),
  owner   text COLLATE "C" NOT NULL,
  purpose text COLLATE "C" NOT NULL,
  label   text COLLATE "C" UNIQUE,
  maps    cidr,
  note    text COLLATE "C" NOT NULL,
  created bigint,
  -- With an owner an allocation ends then, without one it is in quarantine until then.
  until   bigint,
  side    int8range NOT NULL GENERATED ALWAYS AS (CASE kind
    WHEN 'foreign' THEN int8range(-id, 1 - id)
    WHEN 'reserved' THEN int8range(0, 1)
    WHEN 'allocation' THEN int8range(NULL, NULL)
    WHEN 'pool' THEN int8range(1, NULL)
    ELSE int8range(id, id + 1) END) STORED,
  depth   int4range NOT NULL GENERATED ALWAYS AS (CASE kind
    WHEN 'allocation' THEN int4range(masklen(prefix) + 1, NULL)
    WHEN 'pool' THEN int4range(masklen(prefix), masklen(prefix), '[]')
    ELSE int4range(NULL, NULL) END) STORED,
  -- One of the pools that an allocation lies in, which ranges_pool looks up. The foreign key keeps it there and the CHECK compares the
  -- prefixes.
  pool_id     bigint,
  pool_prefix cidr,
  pool_kind   text COLLATE "C" GENERATED ALWAYS AS (CASE kind WHEN 'allocation' THEN 'pool' END) STORED,

  CONSTRAINT ranges_disjoint EXCLUDE USING gist (prefix inet_ops WITH &&, side WITH &&, depth WITH &&),
  CONSTRAINT ranges_once EXCLUDE USING btree (prefix WITH =, owner WITH =, purpose WITH =) WHERE (kind IN ('lan', 'reported')),
  CONSTRAINT ranges_prefix UNIQUE (id, kind, prefix),
  CONSTRAINT ranges_pool_stays FOREIGN KEY (pool_id, pool_kind, pool_prefix) REFERENCES ranges (id, kind, prefix),
  CONSTRAINT ranges_in_pool CHECK (CASE kind
    WHEN 'allocation' THEN pool_id IS NOT NULL AND pool_prefix IS NOT NULL AND prefix <<= pool_prefix
    ELSE pool_id IS NULL AND pool_prefix IS NULL END),
  CONSTRAINT ranges_owner CHECK (CASE
    WHEN kind IN ('pool', 'foreign') THEN owner = ''
    WHEN kind IN ('lan', 'reported') THEN owner <> ''
    ELSE true END),
  CONSTRAINT ranges_purpose CHECK (CASE kind
    WHEN 'allocation' THEN purpose IN ('overlay', 'mapped', 'workstation', 'services')
    WHEN 'reported' THEN purpose IN ('lan', 'wan', 'container')
    ELSE purpose = '' END),
  CONSTRAINT ranges_label CHECK (label IS NULL OR (label <> '' AND kind IN ('pool', 'allocation', 'reserved'))),
  CONSTRAINT ranges_maps CHECK (CASE
    WHEN kind = 'allocation' AND purpose = 'mapped' THEN
      maps IS NOT NULL AND family(maps) = family(prefix) AND masklen(maps) = masklen(prefix) AND NOT maps <<= '::ffff:0:0/96'
    ELSE maps IS NULL END),
  CONSTRAINT ranges_end CHECK (until IS NULL OR kind = 'allocation' OR (kind = 'reserved' AND owner = ''))
);

CREATE INDEX ranges_pools ON ranges USING gist (prefix inet_ops) WHERE kind = 'pool';
CREATE INDEX ranges_pool_id ON ranges (pool_id) WHERE pool_id IS NOT NULL;
CREATE INDEX ranges_by_owner ON ranges (owner) WHERE owner <> '';
CREATE INDEX ranges_by_end ON ranges (until) WHERE until IS NOT NULL;

-- Of the pools around an allocation it notes the widest: narrower ones come and go then without a word. Without sequential scans, because
-- a plan of the query may be made while the table is small and used until it is large.
CREATE FUNCTION ranges_pool() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_seqscan = off AS $$
BEGIN
  NEW.pool_id := NULL;
  NEW.pool_prefix := NULL;
  IF NEW.kind = 'allocation' THEN
    SELECT id, prefix INTO NEW.pool_id, NEW.pool_prefix
      FROM ranges WHERE kind = 'pool' AND prefix >>= NEW.prefix ORDER BY masklen(prefix) LIMIT 1;
  END IF;
  RETURN NEW;
END $$;

CREATE TRIGGER ranges_pool BEFORE INSERT ON ranges FOR EACH ROW EXECUTE FUNCTION ranges_pool();

-- When a pool is removed, allocations that noted it note another that they lie in. Where one lies in no other, all stay as they are and
-- the foreign key refuses the removal. Triggers run in the order of their names, and this one must come before that of the foreign key,
-- which begins with RI.
CREATE FUNCTION ranges_next_pool() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_seqscan = off AS $$
BEGIN
  IF NOT EXISTS (
    SELECT FROM ranges AS a WHERE a.pool_id = OLD.id AND NOT EXISTS (
      SELECT FROM ranges AS p WHERE p.kind = 'pool' AND p.prefix >>= a.prefix)) THEN
    UPDATE ranges AS a SET (pool_id, pool_prefix) = (
      SELECT p.id, p.prefix FROM ranges AS p WHERE p.kind = 'pool' AND p.prefix >>= a.prefix ORDER BY masklen(p.prefix) LIMIT 1)
      WHERE a.pool_id = OLD.id;
  END IF;
  RETURN NULL;
END $$;

CREATE TRIGGER "A_ranges_next_pool" AFTER DELETE ON ranges
FOR EACH ROW WHEN (OLD.kind = 'pool') EXECUTE FUNCTION ranges_next_pool();

CREATE TRIGGER ranges_fixed BEFORE UPDATE ON ranges FOR EACH ROW
WHEN ((NEW.id, NEW.kind, NEW.prefix, NEW.purpose, NEW.maps) IS DISTINCT FROM (OLD.id, OLD.kind, OLD.prefix, OLD.purpose, OLD.maps))
EXECUTE FUNCTION refuse('a prefix is never changed, remove it and create another');

CREATE TRIGGER ranges_owned BEFORE UPDATE ON ranges FOR EACH ROW
WHEN (NEW.owner NOT IN ('', OLD.owner)) EXECUTE FUNCTION refuse('an owner is given up, never changed');

CREATE TRIGGER ranges_stay BEFORE TRUNCATE ON ranges
FOR EACH STATEMENT EXECUTE FUNCTION refuse('remove ranges one by one');

-- The revision rises with the first change of a transaction; who reads it in between sets range_writer to NULL, so that it rises again.
-- A rise with every row would leave as many dead versions of one row, and each of them would be visited by the next.
CREATE FUNCTION ranges_revise() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
  UPDATE network SET range_revision = range_revision + 1, range_writer = pg_current_xact_id()
    WHERE range_writer IS DISTINCT FROM pg_current_xact_id();
  RETURN NULL;
END $$;

CREATE TRIGGER ranges_revise AFTER INSERT OR DELETE ON ranges FOR EACH ROW EXECUTE FUNCTION ranges_revise();

-- Who changes the plan waits for the turn of all writers first, as Store does. No rule needs this; without it, two writers of whom one
-- waits for the other's range and the other for the network row would deadlock, and a pool could be refused its removal because an
-- allocation that is not seen yet has noted it.
CREATE FUNCTION ranges_await_turn() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
  PERFORM FROM network FOR UPDATE;
  RETURN NULL;
END $$;

CREATE TRIGGER ranges_await_turn BEFORE INSERT OR DELETE ON ranges FOR EACH STATEMENT EXECUTE FUNCTION ranges_await_turn();
