package postgres

import (
	"net/netip"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store/internal/engine"
)

// history implements store.History.
type history struct{ t *tx }

const selectHistory = `SELECT seq, at, actor, action, owner_name, range_id, ` + rangeColumns + ` FROM range_history `

// overlappingHistory takes prefix and limit. What overlaps is found first: with the limit in view, PostgreSQL might rather read the whole
// history from its end.
const overlappingHistory = `WITH hit AS MATERIALIZED (SELECT seq FROM range_history WHERE prefix && $1) ` +
	selectHistory + `WHERE seq IN (SELECT seq FROM hit ORDER BY seq DESC LIMIT $2) ORDER BY seq`

func scanHistory(s scanner) (provisioning.RangeEvent, error) {
	var v provisioning.RangeEvent
	var c rangeScan
	var at int64
	err := s.Scan(append([]any{&v.Seq, &at, text(&v.Actor), text(&v.Action), text(&v.OwnerName), &v.Range.ID}, c.into(&v.Range)...)...)
	c.finish(&v.Range)
	v.At = time.Unix(0, at).UTC()
	return v, err
}

func (g history) Append(e provisioning.RangeEvent) (provisioning.RangeEvent, error) {
	v, err := g.append(e)
	return v, engine.Wrap(err, "append to the history of %v", e.Range.Prefix)
}

func (g history) append(e provisioning.RangeEvent) (provisioning.RangeEvent, error) {
	if err := engine.CheckHistory(e); err != nil {
		return e, err
	}
	e.At = e.At.UTC()
	args := append([]any{e.At.UnixNano(), e.Actor, e.Action, e.OwnerName, e.Range.ID}, rangeArgs(e.Range)...)
	err := g.t.row(`INSERT INTO range_history (seq, at, actor, action, owner_name, range_id, kind, prefix, owner, purpose, label, maps, note,
			created, until)
		SELECT coalesce(max(seq), 0) + 1, $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14 FROM range_history
		RETURNING seq`, args...).Scan(&e.Seq)
	return e, translate(err)
}

func (g history) Overlapping(p netip.Prefix, limit int) ([]provisioning.RangeEvent, error) {
	if err := provisioning.CheckPrefix(p); err != nil {
		return nil, err
	}
	v, err := all(g.t, scanHistory, overlappingHistory, p, max(limit, 0))
	return v, engine.Wrap(err, "read the history of %v", p)
}
