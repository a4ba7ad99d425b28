package sqlite

import (
	"net/netip"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store/internal/engine"
)

// history implements store.History.
type history struct{ t *tx }

const selectHistory = `SELECT seq, at, actor, action, owner_name, range_id, ` + rangeColumns + ` FROM range_history `

// overlappingHistory takes family, first and last address, length and limit: of each length, what starts inside or what holds the first
// address.
const overlappingHistory = selectHistory + `WHERE seq IN (SELECT seq FROM (
	SELECT h.seq AS seq FROM history_lengths AS l
		CROSS JOIN range_history AS h ON h.family = l.family AND h.bits = l.bits AND h.lo BETWEEN ?2 AND ?3
		WHERE l.family = ?1 AND l.bits >= ?4
	UNION ALL
	SELECT h.seq FROM history_lengths AS l
		CROSS JOIN range_history AS h ON h.family = l.family AND h.bits = l.bits AND h.lo = (
			SELECT max(lo) FROM range_history WHERE family = l.family AND bits = l.bits AND lo <= ?2)
		WHERE l.family = ?1 AND l.bits < ?4 AND h.hi >= ?2)
	ORDER BY seq DESC LIMIT ?5) ORDER BY seq`

func scanHistory(s scanner) (provisioning.RangeEvent, error) {
	var v provisioning.RangeEvent
	var c rangeScan
	var at int64
	err := s.Scan(append([]any{&v.Seq, &at, &v.Actor, &v.Action, &v.OwnerName, &v.Range.ID}, c.into(&v.Range)...)...)
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
	args := append([]any{e.At.UnixNano(), e.Actor, e.Action, e.OwnerName, e.Range.ID}, rangeArgs(e.Range)...)
	res, err := g.t.result(`INSERT INTO range_history (seq, at, actor, action, owner_name, range_id,
			kind, family, bits, lo, hi, prefix_text, owner, purpose, label, maps, maps_text, note, created, until)
		VALUES ((SELECT coalesce(max(seq), 0) + 1 FROM range_history), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, args...)
	if err != nil {
		return e, err
	}
	seq, err := res.LastInsertId()
	e.Seq, e.At = uint64(seq), e.At.UTC()
	return e, err
}

func (g history) Overlapping(p netip.Prefix, limit int) ([]provisioning.RangeEvent, error) {
	if err := provisioning.CheckPrefix(p); err != nil {
		return nil, err
	}
	s := spanOf(p)
	v, err := all(g.t, scanHistory, overlappingHistory, s.family, s.lo, s.hi, s.bits, max(limit, 0))
	return v, engine.Wrap(err, "read the history of %v", p)
}
