-- The address plan, which cannot hold an overlap whatever the program believes.
--
-- lo and hi are the first and last address. bits is the length within their 128 bits, so 96 more than written for IPv4. The CHECKs make
-- every row a true prefix; two prefixes either nest or are disjoint, and the triggers rest on that.
CREATE TABLE ranges (
  id      INTEGER PRIMARY KEY AUTOINCREMENT CHECK (id > 0),
  kind    TEXT NOT NULL CHECK (kind IN ('pool', 'allocation', 'reserved', 'foreign')),
  family  INTEGER NOT NULL CHECK (family IN (4, 6)),
  bits    INTEGER NOT NULL CHECK (bits BETWEEN iif(family = 4, 96, 0) AND 128),
  lo      BLOB NOT NULL CHECK (length(lo) = 16 AND (family = 4) = (hex(substr(lo, 1, 12)) = '00000000000000000000FFFF')),
  hi      BLOB NOT NULL CHECK (length(hi) = 16),
  prefix_text TEXT NOT NULL,
  owner   TEXT NOT NULL,
  note    TEXT NOT NULL,
  created INTEGER,
  until   INTEGER CHECK (until IS NULL OR (kind IN ('allocation', 'reserved') AND owner = '')),
  -- In hex digits: equal before the digit in which the prefix ends, all 0 and all F behind it, and in it an aligned run of values.
  CHECK (substr(hex(lo), 1, bits / 4) = substr(hex(hi), 1, bits / 4)
    AND substr(hex(lo), bits / 4 + 2) = substr('00000000000000000000000000000000', 1, max(0, 31 - bits / 4))
    AND substr(hex(hi), bits / 4 + 2) = substr('FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF', 1, max(0, 31 - bits / 4))
    AND (bits = 128 OR (
      (instr('0123456789ABCDEF', substr(hex(lo), bits / 4 + 1, 1)) - 1) % (16 >> bits % 4) = 0
      AND instr('0123456789ABCDEF', substr(hex(hi), bits / 4 + 1, 1)) - instr('0123456789ABCDEF', substr(hex(lo), bits / 4 + 1, 1))
        = (16 >> bits % 4) - 1)))
) STRICT;

-- Each kind but foreign is disjoint in itself, so of all its rows that start at or before an address, the last is the only one that can
-- reach it: one step in this index.
CREATE INDEX ranges_lo ON ranges (kind, family, lo, hi);

-- Foreign ranges nest. Those of one length are disjoint again: what holds an address is found with one step for each length there is.
CREATE INDEX ranges_foreign ON ranges (family, bits, lo, hi) WHERE kind = 'foreign';

CREATE INDEX ranges_owner ON ranges (owner) WHERE owner <> '';
CREATE INDEX ranges_until ON ranges (until) WHERE until IS NOT NULL;

-- The lengths that foreign ranges have, found by skipping through the index.
CREATE VIEW foreign_lengths (family, bits) AS
WITH RECURSIVE l (family, bits) AS (
  SELECT 4, (SELECT min(bits) FROM ranges WHERE kind = 'foreign' AND family = 4)
  UNION ALL
  SELECT 6, (SELECT min(bits) FROM ranges WHERE kind = 'foreign' AND family = 6)
  UNION ALL
  SELECT l.family, (SELECT min(r.bits) FROM ranges AS r WHERE r.kind = 'foreign' AND r.family = l.family AND r.bits > l.bits)
  FROM l WHERE l.bits IS NOT NULL
)
SELECT family, bits FROM l WHERE bits IS NOT NULL;

-- REPLACE would delete the row of the same id without asking ranges_remove.
CREATE TRIGGER ranges_new_id BEFORE INSERT ON ranges WHEN EXISTS (SELECT 1 FROM ranges WHERE id = NEW.id)
BEGIN
  SELECT RAISE(ABORT, 'towpath.fixed: the id is taken');
END;

CREATE TRIGGER ranges_pool BEFORE INSERT ON ranges WHEN NEW.kind = 'pool'
BEGIN
  SELECT RAISE(ABORT, 'towpath.overlap: pools are disjoint') WHERE NEW.lo <= (
    SELECT hi FROM ranges WHERE kind = 'pool' AND family = NEW.family AND lo <= NEW.hi ORDER BY lo DESC LIMIT 1);
END;

CREATE TRIGGER ranges_plan BEFORE INSERT ON ranges WHEN NEW.kind IN ('allocation', 'reserved')
BEGIN
  SELECT RAISE(ABORT, 'towpath.overlap: allocations and reservations are disjoint') WHERE NEW.lo <= (
    SELECT hi FROM ranges WHERE kind = 'allocation' AND family = NEW.family AND lo <= NEW.hi ORDER BY lo DESC LIMIT 1);
  SELECT RAISE(ABORT, 'towpath.overlap: allocations and reservations are disjoint') WHERE NEW.lo <= (
    SELECT hi FROM ranges WHERE kind = 'reserved' AND family = NEW.family AND lo <= NEW.hi ORDER BY lo DESC LIMIT 1);
END;

CREATE TRIGGER ranges_allocation BEFORE INSERT ON ranges WHEN NEW.kind = 'allocation'
BEGIN
  SELECT RAISE(ABORT, 'towpath.overlap: an allocation keeps clear of foreign ranges') WHERE EXISTS (
    SELECT 1 FROM ranges WHERE kind = 'foreign' AND family = NEW.family AND lo BETWEEN NEW.lo AND NEW.hi);
  SELECT RAISE(ABORT, 'towpath.overlap: an allocation keeps clear of foreign ranges') WHERE EXISTS (
    SELECT 1 FROM foreign_lengths AS l WHERE l.family = NEW.family AND NEW.lo <= (
      SELECT hi FROM ranges WHERE kind = 'foreign' AND family = NEW.family AND bits = l.bits AND lo <= NEW.lo
      ORDER BY lo DESC LIMIT 1));
  SELECT RAISE(ABORT, 'towpath.outside: an allocation lies in a pool') WHERE NOT coalesce(NEW.hi <= (
    SELECT hi FROM ranges WHERE kind = 'pool' AND family = NEW.family AND lo <= NEW.lo ORDER BY lo DESC LIMIT 1), 0);
END;

CREATE TRIGGER ranges_foreign_new BEFORE INSERT ON ranges WHEN NEW.kind = 'foreign'
BEGIN
  SELECT RAISE(ABORT, 'towpath.overlap: a foreign range keeps clear of allocations') WHERE NEW.lo <= (
    SELECT hi FROM ranges WHERE kind = 'allocation' AND family = NEW.family AND lo <= NEW.hi ORDER BY lo DESC LIMIT 1);
END;

CREATE TRIGGER ranges_fixed BEFORE UPDATE ON ranges
WHEN (NEW.id, NEW.kind, NEW.family, NEW.bits, NEW.lo, NEW.hi, NEW.prefix_text)
  IS NOT (OLD.id, OLD.kind, OLD.family, OLD.bits, OLD.lo, OLD.hi, OLD.prefix_text)
BEGIN
  SELECT RAISE(ABORT, 'towpath.fixed: a prefix is never changed, remove it and create another');
END;

CREATE TRIGGER ranges_remove BEFORE DELETE ON ranges WHEN OLD.kind = 'pool' AND EXISTS (
  SELECT 1 FROM ranges WHERE kind = 'allocation' AND family = OLD.family AND lo BETWEEN OLD.lo AND OLD.hi)
BEGIN
  SELECT RAISE(ABORT, 'towpath.in_use: the pool has allocations');
END;

CREATE TRIGGER ranges_created AFTER INSERT ON ranges
BEGIN
  UPDATE network SET range_revision = range_revision + 1;
END;

CREATE TRIGGER ranges_removed AFTER DELETE ON ranges
BEGIN
  UPDATE network SET range_revision = range_revision + 1;
END;
