-- The address plan, which cannot hold an overlap whatever the program believes.
--
-- lo and hi are the first and last address. bits is the length within their 128 bits, so 96 more than written for IPv4. maps is the first
-- address of the part of a LAN that a mapped allocation stands for; its family and length are those of the row. The CHECKs make every row
-- a true prefix; two prefixes either nest or are disjoint, and the triggers rest on that.
CREATE TABLE ranges (
  id      INTEGER PRIMARY KEY AUTOINCREMENT CHECK (id > 0),
  kind    TEXT NOT NULL CHECK (kind IN ('pool', 'allocation', 'reserved', 'foreign', 'lan', 'reported')),
  family  INTEGER NOT NULL CHECK (family IN (4, 6)),
  bits    INTEGER NOT NULL CHECK (bits BETWEEN iif(family = 4, 96, 0) AND 128),
  lo      BLOB NOT NULL CHECK (length(lo) = 16 AND (family = 4) = (hex(substr(lo, 1, 12)) = '00000000000000000000FFFF')),
  hi      BLOB NOT NULL CHECK (length(hi) = 16),
  prefix_text TEXT NOT NULL,
  owner   TEXT NOT NULL CHECK (CASE WHEN kind IN ('pool', 'foreign') THEN owner = '' WHEN kind IN ('lan', 'reported') THEN owner <> '' ELSE 1 END),
  purpose TEXT NOT NULL CHECK (CASE kind
    WHEN 'allocation' THEN purpose IN ('overlay', 'mapped', 'workstation', 'services')
    WHEN 'reported' THEN purpose IN ('lan', 'wan', 'container')
    ELSE purpose = '' END),
  label   TEXT UNIQUE CHECK (label IS NULL OR (label <> '' AND kind IN ('pool', 'allocation', 'reserved'))),
  maps    BLOB CHECK ((maps IS NOT NULL) = (kind = 'allocation' AND purpose = 'mapped')),
  maps_text TEXT NOT NULL,
  note    TEXT NOT NULL,
  created INTEGER,
  -- With an owner an allocation ends then, without one it is in quarantine until then.
  until   INTEGER CHECK (until IS NULL OR kind = 'allocation' OR (kind = 'reserved' AND owner = '')),
  -- In hex digits: equal before the digit in which the prefix ends, all 0 and all F behind it, and in it an aligned run of values.
  CHECK (substr(hex(lo), 1, bits / 4) = substr(hex(hi), 1, bits / 4)
    AND substr(hex(lo), bits / 4 + 2) = substr('00000000000000000000000000000000', 1, max(0, 31 - bits / 4))
    AND substr(hex(hi), bits / 4 + 2) = substr('FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF', 1, max(0, 31 - bits / 4))
    AND (bits = 128 OR (
      (instr('0123456789ABCDEF', substr(hex(lo), bits / 4 + 1, 1)) - 1) % (16 >> bits % 4) = 0
      AND instr('0123456789ABCDEF', substr(hex(hi), bits / 4 + 1, 1)) - instr('0123456789ABCDEF', substr(hex(lo), bits / 4 + 1, 1))
        = (16 >> bits % 4) - 1))),
  CHECK (maps IS NULL OR (length(maps) = 16 AND (family = 4) = (hex(substr(maps, 1, 12)) = '00000000000000000000FFFF')
    AND substr(hex(maps), bits / 4 + 2) = substr('00000000000000000000000000000000', 1, max(0, 31 - bits / 4))
    AND (bits = 128 OR (instr('0123456789ABCDEF', substr(hex(maps), bits / 4 + 1, 1)) - 1) % (16 >> bits % 4) = 0)))
) STRICT;

-- Allocations are disjoint, and so are reservations: of all rows of such a kind that start at or before an address, the last is the only
-- one that can reach it: one step in this index. It also finds what starts inside a prefix, of any kind.
CREATE INDEX ranges_lo ON ranges (kind, family, lo, hi);

-- The other kinds nest. Those of one length are disjoint again, or equal: what holds an address is found with one step for each length
-- that there is.
CREATE INDEX ranges_nested ON ranges (kind, family, bits, lo, hi) WHERE kind <> 'allocation' AND kind <> 'reserved';

CREATE UNIQUE INDEX ranges_once ON ranges (family, bits, lo, owner, purpose) WHERE kind IN ('lan', 'reported');
CREATE INDEX ranges_owner ON ranges (owner) WHERE owner <> '';
CREATE INDEX ranges_until ON ranges (until) WHERE until IS NOT NULL;

-- The lengths that pools have, found by skipping through the index.
CREATE VIEW pool_lengths (family, bits) AS
WITH RECURSIVE l (family, bits) AS (
  SELECT 4, (SELECT min(bits) FROM ranges WHERE kind = 'pool' AND kind <> 'allocation' AND kind <> 'reserved' AND family = 4)
  UNION ALL
  SELECT 6, (SELECT min(bits) FROM ranges WHERE kind = 'pool' AND kind <> 'allocation' AND kind <> 'reserved' AND family = 6)
  UNION ALL
  SELECT l.family, (
    SELECT min(r.bits) FROM ranges AS r
    WHERE r.kind = 'pool' AND r.kind <> 'allocation' AND r.kind <> 'reserved' AND r.family = l.family AND r.bits > l.bits)
  FROM l WHERE l.bits IS NOT NULL
)
SELECT family, bits FROM l WHERE bits IS NOT NULL;

-- The lengths that the networks of sites and others have, in the same way.
CREATE VIEW network_lengths (kind, family, bits) AS
WITH RECURSIVE
  kinds (kind) AS (VALUES ('foreign'), ('lan'), ('reported')),
  families (family) AS (VALUES (4), (6)),
  l (kind, family, bits) AS (
    SELECT k.kind, f.family, (
      SELECT min(r.bits) FROM ranges AS r
      WHERE r.kind = k.kind AND r.kind <> 'allocation' AND r.kind <> 'reserved' AND r.family = f.family)
    FROM kinds AS k CROSS JOIN families AS f
    UNION ALL
    SELECT l.kind, l.family, (
      SELECT min(r.bits) FROM ranges AS r
      WHERE r.kind = l.kind AND r.kind <> 'allocation' AND r.kind <> 'reserved' AND r.family = l.family AND r.bits > l.bits)
    FROM l WHERE l.bits IS NOT NULL
  )
SELECT kind, family, bits FROM l WHERE bits IS NOT NULL;

-- REPLACE would delete the row of the same id, label or fact without asking ranges_remove.
CREATE TRIGGER ranges_new_id BEFORE INSERT ON ranges WHEN EXISTS (SELECT 1 FROM ranges WHERE id = NEW.id)
BEGIN
  SELECT RAISE(ABORT, 'towpath.fixed: the id is taken');
END;

CREATE TRIGGER ranges_new_label BEFORE INSERT ON ranges WHEN EXISTS (SELECT 1 FROM ranges WHERE label = NEW.label)
BEGIN
  SELECT RAISE(ABORT, 'towpath.exists: the label is taken');
END;

CREATE TRIGGER ranges_label BEFORE UPDATE OF label ON ranges WHEN EXISTS (SELECT 1 FROM ranges WHERE label = NEW.label AND id <> OLD.id)
BEGIN
  SELECT RAISE(ABORT, 'towpath.exists: the label is taken');
END;

CREATE TRIGGER ranges_new_fact BEFORE INSERT ON ranges WHEN NEW.kind IN ('lan', 'reported') AND EXISTS (
  SELECT 1 FROM ranges WHERE kind IN ('lan', 'reported') AND family = NEW.family AND bits = NEW.bits AND lo = NEW.lo AND owner = NEW.owner
    AND purpose = NEW.purpose)
BEGIN
  SELECT RAISE(ABORT, 'towpath.exists: the range of this owner is there');
END;

CREATE TRIGGER ranges_pool BEFORE INSERT ON ranges WHEN NEW.kind = 'pool'
BEGIN
  SELECT RAISE(ABORT, 'towpath.overlap: no two pools are equal') WHERE EXISTS (
    SELECT 1 FROM ranges WHERE kind = 'pool' AND kind <> 'allocation' AND kind <> 'reserved' AND family = NEW.family AND bits = NEW.bits
      AND lo = NEW.lo);
  SELECT RAISE(ABORT, 'towpath.overlap: no allocation holds a pool but its equal') WHERE EXISTS (
    SELECT 1 FROM (SELECT bits, hi FROM ranges WHERE kind = 'allocation' AND family = NEW.family AND lo <= NEW.lo ORDER BY lo DESC LIMIT 1)
    WHERE hi >= NEW.hi AND bits < NEW.bits);
  SELECT RAISE(ABORT, 'towpath.overlap: a pool keeps clear of the networks of sites') WHERE EXISTS (
    SELECT 1 FROM ranges WHERE kind IN ('lan', 'reported') AND family = NEW.family AND lo BETWEEN NEW.lo AND NEW.hi);
  SELECT RAISE(ABORT, 'towpath.overlap: a pool keeps clear of the networks of sites') WHERE EXISTS (
    SELECT 1 FROM network_lengths AS l WHERE l.kind IN ('lan', 'reported') AND l.family = NEW.family AND l.bits < NEW.bits AND NEW.lo <= (
      SELECT hi FROM ranges WHERE kind = l.kind AND kind <> 'allocation' AND kind <> 'reserved' AND family = NEW.family AND bits = l.bits
        AND lo <= NEW.lo ORDER BY lo DESC LIMIT 1));
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
  SELECT RAISE(ABORT, 'towpath.overlap: an allocation keeps clear of the networks of sites and others') WHERE EXISTS (
    SELECT 1 FROM ranges WHERE kind IN ('foreign', 'lan', 'reported') AND family = NEW.family AND lo BETWEEN NEW.lo AND NEW.hi);
  SELECT RAISE(ABORT, 'towpath.overlap: an allocation keeps clear of the networks of sites and others') WHERE EXISTS (
    SELECT 1 FROM network_lengths AS l WHERE l.family = NEW.family AND l.bits < NEW.bits AND NEW.lo <= (
      SELECT hi FROM ranges WHERE kind = l.kind AND kind <> 'allocation' AND kind <> 'reserved' AND family = NEW.family AND bits = l.bits
        AND lo <= NEW.lo ORDER BY lo DESC LIMIT 1));
  SELECT RAISE(ABORT, 'towpath.overlap: no allocation holds a pool but its equal') WHERE EXISTS (
    SELECT 1 FROM ranges WHERE kind = 'pool' AND family = NEW.family AND lo BETWEEN NEW.lo AND NEW.hi AND (lo > NEW.lo OR hi < NEW.hi));
  SELECT RAISE(ABORT, 'towpath.outside: an allocation lies in a pool') WHERE NOT EXISTS (
    SELECT 1 FROM pool_lengths AS l WHERE l.family = NEW.family AND l.bits <= NEW.bits AND NEW.hi <= (
      SELECT hi FROM ranges WHERE kind = 'pool' AND kind <> 'allocation' AND kind <> 'reserved' AND family = NEW.family AND bits = l.bits
        AND lo <= NEW.lo ORDER BY lo DESC LIMIT 1));
END;

CREATE TRIGGER ranges_network BEFORE INSERT ON ranges WHEN NEW.kind IN ('foreign', 'lan', 'reported')
BEGIN
  SELECT RAISE(ABORT, 'towpath.overlap: the networks of sites and others keep clear of allocations') WHERE NEW.lo <= (
    SELECT hi FROM ranges WHERE kind = 'allocation' AND family = NEW.family AND lo <= NEW.hi ORDER BY lo DESC LIMIT 1);
END;

CREATE TRIGGER ranges_site_network BEFORE INSERT ON ranges WHEN NEW.kind IN ('lan', 'reported')
BEGIN
  SELECT RAISE(ABORT, 'towpath.overlap: the networks of sites keep clear of pools') WHERE EXISTS (
    SELECT 1 FROM ranges WHERE kind = 'pool' AND family = NEW.family AND lo BETWEEN NEW.lo AND NEW.hi);
  SELECT RAISE(ABORT, 'towpath.overlap: the networks of sites keep clear of pools') WHERE EXISTS (
    SELECT 1 FROM pool_lengths AS l WHERE l.family = NEW.family AND l.bits < NEW.bits AND NEW.lo <= (
      SELECT hi FROM ranges WHERE kind = 'pool' AND kind <> 'allocation' AND kind <> 'reserved' AND family = NEW.family AND bits = l.bits
        AND lo <= NEW.lo ORDER BY lo DESC LIMIT 1));
END;

CREATE TRIGGER ranges_fixed BEFORE UPDATE ON ranges
WHEN (NEW.id, NEW.kind, NEW.family, NEW.bits, NEW.lo, NEW.hi, NEW.prefix_text, NEW.purpose, NEW.maps, NEW.maps_text)
  IS NOT (OLD.id, OLD.kind, OLD.family, OLD.bits, OLD.lo, OLD.hi, OLD.prefix_text, OLD.purpose, OLD.maps, OLD.maps_text)
BEGIN
  SELECT RAISE(ABORT, 'towpath.fixed: a prefix is never changed, remove it and create another');
END;

CREATE TRIGGER ranges_owned BEFORE UPDATE OF owner ON ranges WHEN NEW.owner NOT IN ('', OLD.owner)
BEGIN
  SELECT RAISE(ABORT, 'towpath.fixed: an owner is given up, never changed');
END;

-- A pool that lies in another may go. Of any other, each allocation must lie in a narrower pool: it is enough to look at the first one that
-- starts behind the beginning of the pool and behind the end of each narrower pool, because where that one is covered, so are those that
-- follow it, up to the end of what covers it.
CREATE TRIGGER ranges_remove BEFORE DELETE ON ranges WHEN OLD.kind = 'pool' AND NOT EXISTS (
  SELECT 1 FROM pool_lengths AS l WHERE l.family = OLD.family AND l.bits < OLD.bits AND OLD.hi <= (
    SELECT hi FROM ranges WHERE kind = 'pool' AND kind <> 'allocation' AND kind <> 'reserved' AND family = OLD.family AND bits = l.bits
      AND lo <= OLD.lo ORDER BY lo DESC LIMIT 1))
BEGIN
  SELECT RAISE(ABORT, 'towpath.in_use: the pool has allocations that lie in no other') WHERE EXISTS (
    SELECT 1 FROM (
      SELECT (SELECT min(lo) FROM ranges WHERE kind = 'allocation' AND family = OLD.family AND lo BETWEEN OLD.lo AND OLD.hi) AS lo
      UNION
      SELECT (SELECT min(a.lo) FROM ranges AS a WHERE a.kind = 'allocation' AND a.family = OLD.family AND a.lo > p.hi AND a.lo <= OLD.hi)
      FROM ranges AS p WHERE p.kind = 'pool' AND p.family = OLD.family AND p.lo BETWEEN OLD.lo AND OLD.hi AND p.id <> OLD.id
    ) AS first
    WHERE first.lo IS NOT NULL AND NOT EXISTS (
      SELECT 1 FROM pool_lengths AS l WHERE l.family = OLD.family AND l.bits > OLD.bits AND first.lo <= (
        SELECT hi FROM ranges WHERE kind = 'pool' AND kind <> 'allocation' AND kind <> 'reserved' AND family = OLD.family AND bits = l.bits
          AND lo <= first.lo ORDER BY lo DESC LIMIT 1)));
END;

CREATE TRIGGER ranges_created AFTER INSERT ON ranges
BEGIN
  UPDATE network SET range_revision = range_revision + 1;
END;

CREATE TRIGGER ranges_removed AFTER DELETE ON ranges
BEGIN
  UPDATE network SET range_revision = range_revision + 1;
END;
