-- The address plan, which cannot hold an overlap whatever the program believes. Its rules are one exclusion constraint, one foreign key
-- and CHECKs. PostgreSQL enforces these against rows that other transactions have not committed yet, at every isolation level; no rule
-- rests on what a trigger read.
--
-- side turns "which kinds exclude each other" into "which intervals overlap":
--
--	pool        [-3,-2)    meets pools only
--	reserved    [-1,0)     meets reservations and allocations
--	allocation  [-1,∞)     meets reservations, allocations and every foreign range
--	foreign     [id,id+1)  meets allocations only: ids are unique and positive
--
-- so that two rows are in conflict where both prefix and side overlap. An IPv4 and an IPv6 prefix never do.
CREATE TABLE ranges (
  id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY CHECK (id BETWEEN 1 AND 9223372036854775800),
  kind    text COLLATE "C" NOT NULL CHECK (kind IN ('pool', 'allocation', 'reserved', 'foreign')),
  -- IPv4 is never written as IPv6 (RFC 4291 §2.5.5.2): the two would not be seen to overlap.
  prefix  cidr NOT NULL CHECK (NOT prefix <<= '::ffff:0:0/96'),
  owner   text COLLATE "C" NOT NULL,
  note    text COLLATE "C" NOT NULL,
  created bigint,
  until   bigint,
  side    int8range NOT NULL GENERATED ALWAYS AS (CASE kind
    WHEN 'pool' THEN int8range(-3, -2)
    WHEN 'reserved' THEN int8range(-1, 0)
    WHEN 'allocation' THEN int8range(-1, NULL)
    ELSE int8range(id, id + 1) END) STORED,
  -- The pool that an allocation lies in, which ranges_pool looks up. The foreign key keeps it there and the CHECK compares the prefixes.
  pool_id     bigint,
  pool_prefix cidr,
  pool_kind   text COLLATE "C" GENERATED ALWAYS AS (CASE kind WHEN 'allocation' THEN 'pool' END) STORED,

  CONSTRAINT ranges_disjoint EXCLUDE USING gist (prefix inet_ops WITH &&, side WITH &&),
  CONSTRAINT ranges_prefix UNIQUE (id, kind, prefix),
  CONSTRAINT ranges_pool_stays FOREIGN KEY (pool_id, pool_kind, pool_prefix) REFERENCES ranges (id, kind, prefix),
  CONSTRAINT ranges_in_pool CHECK (CASE kind
    WHEN 'allocation' THEN pool_id IS NOT NULL AND pool_prefix IS NOT NULL AND prefix <<= pool_prefix
    ELSE pool_id IS NULL AND pool_prefix IS NULL END),
  CONSTRAINT ranges_quarantine CHECK (until IS NULL OR (kind IN ('allocation', 'reserved') AND owner = ''))
);

CREATE INDEX ranges_pool_id ON ranges (pool_id) WHERE pool_id IS NOT NULL;
CREATE INDEX ranges_owner ON ranges (owner) WHERE owner <> '';
CREATE INDEX ranges_until ON ranges (until) WHERE until IS NOT NULL;

-- Without sequential scans, because a plan of the query may be made while the table is small and used until it is large.
CREATE FUNCTION ranges_pool() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_seqscan = off AS $$
BEGIN
  NEW.pool_id := NULL;
  NEW.pool_prefix := NULL;
  IF NEW.kind = 'allocation' THEN
    SELECT id, prefix INTO NEW.pool_id, NEW.pool_prefix
      FROM ranges WHERE prefix >>= NEW.prefix AND side && int8range(-3, -2) AND kind = 'pool';
  END IF;
  RETURN NEW;
END $$;

CREATE TRIGGER ranges_pool BEFORE INSERT ON ranges FOR EACH ROW EXECUTE FUNCTION ranges_pool();

CREATE TRIGGER ranges_fixed BEFORE UPDATE ON ranges FOR EACH ROW
WHEN ((NEW.id, NEW.kind, NEW.prefix, NEW.pool_id, NEW.pool_prefix) IS DISTINCT FROM (OLD.id, OLD.kind, OLD.prefix, OLD.pool_id, OLD.pool_prefix))
EXECUTE FUNCTION refuse('a prefix is never changed, remove it and create another');

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
-- waits for the other's range and the other for the network row would deadlock.
CREATE FUNCTION ranges_await_turn() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
  PERFORM FROM network FOR UPDATE;
  RETURN NULL;
END $$;

CREATE TRIGGER ranges_await_turn BEFORE INSERT OR DELETE ON ranges FOR EACH STATEMENT EXECUTE FUNCTION ranges_await_turn();
