-- What happened to addresses. It only grows; a range is told as it was then, with the columns of ranges.
CREATE TABLE range_history (
  seq        INTEGER PRIMARY KEY,
  at         INTEGER NOT NULL,
  actor      TEXT NOT NULL,
  action     TEXT NOT NULL,
  owner_name TEXT NOT NULL,
  range_id   INTEGER NOT NULL,
  kind       TEXT NOT NULL,
  family     INTEGER NOT NULL CHECK (family IN (4, 6)),
  bits       INTEGER NOT NULL CHECK (bits BETWEEN iif(family = 4, 96, 0) AND 128),
  lo         BLOB NOT NULL CHECK (length(lo) = 16),
  hi         BLOB NOT NULL CHECK (length(hi) = 16 AND hi >= lo),
  prefix_text TEXT NOT NULL,
  owner      TEXT NOT NULL,
  purpose    TEXT NOT NULL,
  label      TEXT,
  maps       BLOB CHECK (length(maps) = 16),
  maps_text  TEXT NOT NULL,
  note       TEXT NOT NULL,
  created    INTEGER,
  until      INTEGER
) STRICT;

-- Ranges of one length are disjoint or equal: one step for each length finds what holds an address, in the order of seq.
CREATE INDEX range_history_prefix ON range_history (family, bits, lo, hi);

-- The lengths that there are, found by skipping through the index.
CREATE VIEW history_lengths (family, bits) AS
WITH RECURSIVE l (family, bits) AS (
  SELECT 4, (SELECT min(bits) FROM range_history WHERE family = 4)
  UNION ALL
  SELECT 6, (SELECT min(bits) FROM range_history WHERE family = 6)
  UNION ALL
  SELECT l.family, (SELECT min(h.bits) FROM range_history AS h WHERE h.family = l.family AND h.bits > l.bits) FROM l WHERE l.bits IS NOT NULL
)
SELECT family, bits FROM l WHERE bits IS NOT NULL;

CREATE TRIGGER range_history_order BEFORE INSERT ON range_history WHEN NEW.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM range_history)
BEGIN
  SELECT RAISE(ABORT, 'towpath.fixed: an entry stands behind the last one');
END;

CREATE TRIGGER range_history_stays BEFORE UPDATE ON range_history
BEGIN
  SELECT RAISE(ABORT, 'towpath.fixed: the history is append-only');
END;

CREATE TRIGGER range_history_remains BEFORE DELETE ON range_history
BEGIN
  SELECT RAISE(ABORT, 'towpath.fixed: the history is append-only');
END;
