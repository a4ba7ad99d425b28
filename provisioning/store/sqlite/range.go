package sqlite

import (
	"errors"
	"net/netip"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/store/internal/engine"
)

// ranges implements store.Ranges. The rules are in schema/0002_ranges.sql.
type ranges struct{ t *tx }

const (
	selectRange = `SELECT id, ` + rangeColumns + ` FROM ranges `
	orderRange  = ` ORDER BY family, lo, bits, kind <> 'pool', id`

	insertRange = `INSERT INTO ranges (kind, family, bits, lo, hi, prefix_text, owner, purpose, label, maps, maps_text, note, created, until)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
)

// overlappingRanges takes family, first and last address and length. CROSS JOIN keeps SQLite from turning the joins around, which would
// read every range.
const overlappingRanges = selectRange + `WHERE id IN (
	SELECT r.id FROM (SELECT 'pool' AS kind UNION ALL SELECT 'allocation' UNION ALL SELECT 'reserved' UNION ALL SELECT 'foreign'
			UNION ALL SELECT 'lan' UNION ALL SELECT 'reported') AS k
		CROSS JOIN ranges AS r ON r.kind = k.kind AND r.family = ?1 AND r.lo BETWEEN ?2 AND ?3
	UNION ALL
	SELECT r.id FROM (SELECT 'allocation' AS kind UNION ALL SELECT 'reserved') AS k
		CROSS JOIN ranges AS r ON r.id = (
			SELECT id FROM ranges WHERE kind = k.kind AND family = ?1 AND lo < ?2 ORDER BY lo DESC LIMIT 1)
		WHERE r.hi >= ?2
	UNION ALL
	SELECT r.id FROM (SELECT 'pool' AS kind, family, bits FROM pool_lengths UNION ALL SELECT kind, family, bits FROM network_lengths) AS l
		CROSS JOIN ranges AS r ON r.kind = l.kind AND r.kind <> 'allocation' AND r.kind <> 'reserved' AND r.family = l.family AND r.bits = l.bits
			AND r.lo = (SELECT max(lo) FROM ranges WHERE kind = l.kind AND kind <> 'allocation' AND kind <> 'reserved' AND family = l.family
				AND bits = l.bits AND lo < ?2)
		WHERE l.family = ?1 AND l.bits < ?4 AND r.hi >= ?2)` + orderRange

func scanRange(s scanner) (provisioning.Range, error) {
	var v provisioning.Range
	var c rangeScan
	err := s.Scan(append([]any{&v.ID}, c.into(&v)...)...)
	c.finish(&v)
	return v, err
}

func (g ranges) Create(r provisioning.Range) (provisioning.Range, error) {
	v, err := g.create(r)
	return v, engine.Wrap(err, "create the %s range %v", r.Kind, r.Prefix)
}

func (g ranges) create(r provisioning.Range) (provisioning.Range, error) {
	if err := r.Validate(); err != nil {
		return r, err
	}
	res, err := g.t.result(insertRange, rangeArgs(r)...)
	if errors.Is(err, store.ErrOverlap) {
		return r, g.inTheWay(r, err)
	}
	if err != nil {
		return r, err
	}
	r.ID, err = res.LastInsertId()
	return r, err
}

// inTheWay adds to an ErrOverlap which range is in the way of r.
func (g ranges) inTheWay(r provisioning.Range, err error) error {
	others, lookErr := g.Overlapping(r.Prefix)
	if lookErr != nil {
		return errors.Join(err, lookErr)
	}
	return engine.InTheWay(err, r, others)
}

func (g ranges) ByID(id int64) (provisioning.Range, error) {
	v, err := one(g.t, scanRange, selectRange+`WHERE id = ?`, id)
	return v, engine.Wrap(err, "read the range %d", id)
}

func (g ranges) ByLabel(label string) (provisioning.Range, error) {
	v, err := one(g.t, scanRange, selectRange+`WHERE label = ?`, label)
	return v, engine.Wrap(err, "read the range %q", label)
}

func (g ranges) List() ([]provisioning.Range, error) {
	v, err := all(g.t, scanRange, selectRange+orderRange)
	return v, engine.Wrap(err, "list the ranges")
}

func (g ranges) Of(owner string) ([]provisioning.Range, error) {
	v, err := all(g.t, scanRange, selectRange+`WHERE owner = ? AND owner <> ''`+orderRange, owner)
	return v, engine.Wrap(err, "list the ranges of %q", owner)
}

// Overlapping asks for what starts inside p, and for what starts before and reaches into it: one neighbor of each disjoint kind, one for
// each length of the others.
func (g ranges) Overlapping(p netip.Prefix) ([]provisioning.Range, error) {
	if err := provisioning.CheckPrefix(p); err != nil {
		return nil, err
	}
	s := spanOf(p)
	v, err := all(g.t, scanRange, overlappingRanges, s.family, s.lo, s.hi, s.bits)
	return v, engine.Wrap(err, "find the ranges that overlap %v", p)
}

func (g ranges) Revision() (uint64, error) {
	var v uint64
	err := g.t.row(`SELECT range_revision FROM network`).Scan(&v)
	return v, engine.Wrap(err, "read the revision of the ranges")
}

func (g ranges) Describe(id int64, label, note string) error {
	return engine.Wrap(g.describe(id, label, note), "describe the range %d", id)
}

func (g ranges) describe(id int64, label, note string) error {
	r, err := g.ByID(id)
	if err != nil {
		return err
	}
	r.Label, r.Note = label, note
	if err := r.Validate(); err != nil {
		return err
	}
	return g.t.change(`UPDATE ranges SET label = ?, note = ? WHERE id = ?`, maybeLabel(label), note, id)
}

func (g ranges) End(id int64, until time.Time) error {
	err := g.t.change(`UPDATE ranges SET until = ? WHERE id = ? AND kind = 'allocation' AND owner <> ''`, engine.Nanos(until), id)
	return engine.Wrap(err, "set the end of the range %d", id)
}

func (g ranges) Quarantine(id int64, until time.Time) error {
	if err := engine.CheckQuarantine(until); err != nil {
		return err
	}
	err := g.t.change(`UPDATE ranges SET owner = '', label = NULL, until = ? WHERE id = ? AND kind IN ('allocation', 'reserved')`,
		engine.Nanos(until), id)
	return engine.Wrap(err, "quarantine the range %d", id)
}

func (g ranges) Ended(now time.Time) ([]provisioning.Range, error) {
	v, err := all(g.t, scanRange, selectRange+`WHERE until <= ? AND owner <> ''`+orderRange, engine.Nanos(now))
	return v, engine.Wrap(err, "find what has ended")
}

func (g ranges) Remove(id int64) error {
	return engine.Wrap(g.t.change(`DELETE FROM ranges WHERE id = ?`, id), "remove the range %d", id)
}

func (g ranges) Sweep(now time.Time) ([]provisioning.Range, error) {
	v, err := g.sweep(engine.Nanos(now))
	return v, engine.Wrap(err, "remove what left quarantine")
}

// sweep reads first, because RETURNING has no order. Nobody else writes meanwhile.
func (g ranges) sweep(now any) ([]provisioning.Range, error) {
	const over = `WHERE until <= ? AND owner = ''`
	v, err := all(g.t, scanRange, selectRange+over+orderRange, now)
	if err != nil || len(v) == 0 {
		return nil, err
	}
	_, err = g.t.exec(`DELETE FROM ranges `+over, now)
	return v, err
}
