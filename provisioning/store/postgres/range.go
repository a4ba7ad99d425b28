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
	selectRange = `SELECT id, kind, prefix, owner, note, created, until FROM ranges `
	// The order of cidr is that of family, first address and length.
	orderRange = ` ORDER BY prefix, kind <> 'pool', id`
)

// conflictRange finds the first range that will refuse a new one, for the words of the error. The interval of a foreign range has its id,
// which is not known yet; one that no row has meets the same rows.
const conflictRange = selectRange + `WHERE prefix && $1 AND side && CASE $2::text
	WHEN 'pool' THEN int8range(-3, -2)
	WHEN 'reserved' THEN int8range(-1, 0)
	WHEN 'allocation' THEN int8range(-1, NULL)
	ELSE int8range(9223372036854775806, 9223372036854775807) END` + orderRange + ` LIMIT 1`

const insertRange = `INSERT INTO ranges (kind, prefix, owner, note, created, until) VALUES ($1, $2, $3, $4, $5, $6) RETURNING id`

func scanRange(s scanner) (provisioning.Range, error) {
	var v provisioning.Range
	var created, until engine.Stamp
	err := s.Scan(&v.ID, text(&v.Kind), &v.Prefix, text(&v.Owner), text(&v.Note), &created, &until)
	v.Created, v.Until = created.Time, until.Time
	return v, err
}

func (g ranges) Create(r provisioning.Range) (provisioning.Range, error) {
	v, err := g.create(r)
	return v, engine.Wrap(err, "create the %s range %v", r.Kind, r.Prefix)
}

// create asks for what is in the way together with the insert: after a refusal the transaction answers nothing more.
func (g ranges) create(r provisioning.Range) (provisioning.Range, error) {
	if err := engine.CheckPrefix(r.Prefix); err != nil {
		return r, err
	}
	var b pgx.Batch
	b.Queue(conflictRange, plain([]any{r.Prefix, r.Kind})...)
	b.Queue(insertRange, plain([]any{r.Kind, r.Prefix, r.Owner, r.Note, engine.Nanos(r.Created), engine.Nanos(r.Until)})...)
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
		return r, engine.InTheWay(err, r.Kind, others)
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

func (g ranges) List() ([]provisioning.Range, error) {
	v, err := all(g.t, scanRange, selectRange+orderRange)
	return v, engine.Wrap(err, "list the ranges")
}

func (g ranges) Of(owner string) ([]provisioning.Range, error) {
	v, err := all(g.t, scanRange, selectRange+`WHERE owner = $1 AND owner <> ''`+orderRange, owner)
	return v, engine.Wrap(err, "list the ranges of %q", owner)
}

func (g ranges) Overlapping(p netip.Prefix) ([]provisioning.Range, error) {
	if err := engine.CheckPrefix(p); err != nil {
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

func (g ranges) Quarantine(id int64, until time.Time) error {
	if err := engine.CheckQuarantine(until); err != nil {
		return err
	}
	err := g.t.change(`UPDATE ranges SET owner = '', until = $1 WHERE id = $2 AND kind IN ('allocation', 'reserved')`, engine.Nanos(until), id)
	return engine.Wrap(err, "quarantine the range %d", id)
}

func (g ranges) Remove(id int64) error {
	err := g.t.change(`DELETE FROM ranges WHERE id = $1`, id)
	g.t.revised = g.t.revised || err == nil
	return engine.Wrap(err, "remove the range %d", id)
}

func (g ranges) Sweep(now time.Time) (int, error) {
	n, err := g.t.exec(`DELETE FROM ranges WHERE until <= $1`, engine.Nanos(now))
	g.t.revised = g.t.revised || n > 0
	return n, engine.Wrap(err, "remove what left quarantine")
}
