package postgres

import (
	"errors"
	"net/netip"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/store/internal/engine"
)

// ranges implements store.Ranges. The rules are in schema/0002_ranges.sql.
type ranges struct{ t *tx }

const (
	selectRange = `SELECT id, ` + rangeColumns + ` FROM ranges `
	// The order of cidr is that of family, first address and length.
	orderRange = ` ORDER BY prefix, kind <> 'pool', id`

	insertRange = `INSERT INTO ranges (kind, prefix, owner, purpose, label, maps, note, created, until)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING id`
)

// conflictRange finds the first range that will refuse a new one, for the words of the error. Some intervals have the id, which is not
// known yet; one that no row has meets the same rows.
const conflictRange = selectRange + `WHERE prefix && $1 AND side && CASE $2::text
	WHEN 'foreign' THEN int8range(-9223372036854775807, -9223372036854775806)
	WHEN 'reserved' THEN int8range(0, 1)
	WHEN 'allocation' THEN int8range(NULL, NULL)
	WHEN 'pool' THEN int8range(1, NULL)
	ELSE int8range(9223372036854775806, 9223372036854775807) END
AND depth && CASE $2::text
	WHEN 'allocation' THEN int4range(masklen($1) + 1, NULL)
	WHEN 'pool' THEN int4range(masklen($1), masklen($1), '[]')
	ELSE int4range(NULL, NULL) END` + orderRange + ` LIMIT 1`

const sweepRanges = `WITH ranges AS (DELETE FROM ranges WHERE until <= $1 AND owner = '' RETURNING *) ` + selectRange + orderRange

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

// create asks for what is in the way together with the insert: after a refusal the transaction answers nothing more.
func (g ranges) create(r provisioning.Range) (provisioning.Range, error) {
	if err := r.Validate(); err != nil {
		return r, err
	}
	var b pgx.Batch
	b.Queue(conflictRange, plain([]any{r.Prefix, r.Kind})...)
	b.Queue(insertRange, plain(rangeArgs(r))...)
	res := g.t.sql.SendBatch(g.t.ctx, &b)
	var others []provisioning.Range
	other, lookErr := scanRange(res.QueryRow())
	if lookErr == nil {
		others = append(others, other)
	}
	err := res.QueryRow().Scan(&r.ID)
	err = translate(g.t.note(errors.Join(err, res.Close())))
	switch {
	case errors.Is(err, store.ErrOverlap):
		return r, engine.InTheWay(err, r, others)
	case errors.Is(err, store.ErrInUse):
		// The pool was removed by somebody else while its allocation was on the way.
		return r, store.ErrOutside
	case err != nil:
		return r, err
	case lookErr != nil && !errors.Is(lookErr, pgx.ErrNoRows):
		return r, lookErr
	}
	g.t.revised = true
	return r, nil
}

func (g ranges) ByID(id int64) (provisioning.Range, error) {
	v, err := one(g.t, scanRange, selectRange+`WHERE id = $1`, id)
	return v, engine.Wrap(err, "read the range %d", id)
}

func (g ranges) ByLabel(label string) (provisioning.Range, error) {
	v, err := one(g.t, scanRange, selectRange+`WHERE label = $1`, label)
	return v, engine.Wrap(err, "read the range %q", label)
}

func (g ranges) List() ([]provisioning.Range, error) {
	v, err := all(g.t, scanRange, selectRange+orderRange)
	return v, engine.Wrap(err, "list the ranges")
}

func (g ranges) Of(owner string) ([]provisioning.Range, error) {
	v, err := all(g.t, scanRange, selectRange+`WHERE owner = $1 AND owner <> ''`+orderRange, owner)
	return v, engine.Wrap(err, "list the ranges of %q", owner)
}

func (g ranges) Overlapping(p netip.Prefix) ([]provisioning.Range, error) {
	if err := provisioning.CheckPrefix(p); err != nil {
		return nil, err
	}
	v, err := all(g.t, scanRange, selectRange+`WHERE prefix && $1`+orderRange, p)
	return v, engine.Wrap(err, "find the ranges that overlap %v", p)
}

// Revision rises with the first change of a transaction, by the schema. Who reads it in between makes it rise with the next change too.
func (g ranges) Revision() (uint64, error) {
	var v uint64
	query := `SELECT range_revision FROM network`
	if g.t.revised {
		query = `UPDATE network SET range_writer = NULL RETURNING range_revision`
	}
	err := g.t.row(query).Scan(&v)
	g.t.revised = g.t.revised && err != nil
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
	return g.t.change(`UPDATE ranges SET label = $1, note = $2 WHERE id = $3`, maybeLabel(label), note, id)
}

func (g ranges) End(id int64, until time.Time) error {
	err := g.t.change(`UPDATE ranges SET until = $1 WHERE id = $2 AND kind = 'allocation' AND owner <> ''`, engine.Nanos(until), id)
	return engine.Wrap(err, "set the end of the range %d", id)
}

func (g ranges) Quarantine(id int64, until time.Time) error {
	if err := engine.CheckQuarantine(until); err != nil {
		return err
	}
	err := g.t.change(`UPDATE ranges SET owner = '', label = NULL, until = $1 WHERE id = $2 AND kind IN ('allocation', 'reserved')`,
		engine.Nanos(until), id)
	return engine.Wrap(err, "quarantine the range %d", id)
}

func (g ranges) Ended(now time.Time) ([]provisioning.Range, error) {
	v, err := all(g.t, scanRange, selectRange+`WHERE until <= $1 AND owner <> ''`+orderRange, engine.Nanos(now))
	return v, engine.Wrap(err, "find what has ended")
}

func (g ranges) Remove(id int64) error {
	err := g.t.change(`DELETE FROM ranges WHERE id = $1`, id)
	g.t.revised = g.t.revised || err == nil
	return engine.Wrap(err, "remove the range %d", id)
}

func (g ranges) Sweep(now time.Time) ([]provisioning.Range, error) {
	v, err := all(g.t, scanRange, sweepRanges, engine.Nanos(now))
	g.t.revised = g.t.revised || len(v) > 0
	return v, engine.Wrap(err, "remove what left quarantine")
}
