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
	selectRange = `SELECT id, kind, family, bits, lo, owner, note, created, until FROM ranges `
	orderRange  = ` ORDER BY family, lo, bits, kind <> 'pool', id`
)

// overlappingRanges takes family, first and last address. CROSS JOIN keeps SQLite from turning the joins around, which would read every
// range.
const overlappingRanges = selectRange + `WHERE id IN (
	SELECT r.id FROM (SELECT 'pool' AS kind UNION ALL SELECT 'allocation' UNION ALL SELECT 'reserved' UNION ALL SELECT 'foreign') AS k
		CROSS JOIN ranges AS r ON r.kind = k.kind AND r.family = ?1 AND r.lo BETWEEN ?2 AND ?3
	UNION ALL
	SELECT r.id FROM (SELECT 'pool' AS kind UNION ALL SELECT 'allocation' UNION ALL SELECT 'reserved') AS k
		CROSS JOIN ranges AS r ON r.id = (
			SELECT id FROM ranges WHERE kind = k.kind AND family = ?1 AND lo < ?2 ORDER BY lo DESC LIMIT 1)
		WHERE r.hi >= ?2
	UNION ALL
	SELECT r.id FROM foreign_lengths AS l
		CROSS JOIN ranges AS r ON r.kind = 'foreign' AND r.family = l.family AND r.bits = l.bits AND r.lo = (
			SELECT max(lo) FROM ranges WHERE kind = 'foreign' AND family = l.family AND bits = l.bits AND lo < ?2)
		WHERE l.family = ?1 AND r.hi >= ?2)` + orderRange

// mapped is the number of bits before an IPv4 address mapped into IPv6.
const mapped = 96

func scanRange(s scanner) (provisioning.Range, error) {
	var v provisioning.Range
	var lo [16]byte
	var family, bits int
	var created, until engine.Stamp
	err := s.Scan(&v.ID, &v.Kind, &family, &bits, engine.Fixed(lo[:]), &v.Owner, &v.Note, &created, &until)
	if family == 4 {
		bits -= mapped
	}
	v.Prefix = netip.PrefixFrom(addrOf(lo), bits)
	v.Created, v.Until = created.Time, until.Time
	return v, err
}

// span is a prefix as the columns of the table.
type span struct {
	family, bits int
	lo, hi       []byte
}

func spanOf(p netip.Prefix) (span, error) {
	if err := engine.CheckPrefix(p); err != nil {
		return span{}, err
	}
	s := span{family: 6, bits: p.Bits(), lo: blobOf(p.Addr()), hi: blobOf(p.Addr())}
	if p.Addr().Is4() {
		s.family, s.bits = 4, p.Bits()+mapped
	}
	for i := s.bits; i < 128; i++ {
		s.hi[i/8] |= 0x80 >> (i % 8)
	}
	return s, nil
}

func (g ranges) Create(r provisioning.Range) (provisioning.Range, error) {
	v, err := g.create(r)
	return v, engine.Wrap(err, "create the %s range %v", r.Kind, r.Prefix)
}

func (g ranges) create(r provisioning.Range) (provisioning.Range, error) {
	s, err := spanOf(r.Prefix)
	if err != nil {
		return r, err
	}
	res, err := g.t.result(`INSERT INTO ranges (kind, family, bits, lo, hi, prefix_text, owner, note, created, until)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		r.Kind, s.family, s.bits, s.lo, s.hi, r.Prefix.String(), r.Owner, r.Note, engine.Nanos(r.Created), engine.Nanos(r.Until))
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
	return engine.InTheWay(err, r.Kind, others)
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
// each length of the foreign ranges.
func (g ranges) Overlapping(p netip.Prefix) ([]provisioning.Range, error) {
	s, err := spanOf(p)
	if err != nil {
		return nil, err
	}
	v, err := all(g.t, scanRange, overlappingRanges, s.family, s.lo, s.hi)
	return v, engine.Wrap(err, "find the ranges that overlap %v", p)
}

func (g ranges) Revision() (uint64, error) {
	var v uint64
	err := g.t.row(`SELECT range_revision FROM network`).Scan(&v)
	return v, engine.Wrap(err, "read the revision of the ranges")
}

func (g ranges) Quarantine(id int64, until time.Time) error {
	if err := engine.CheckQuarantine(until); err != nil {
		return err
	}
	err := g.t.change(`UPDATE ranges SET owner = '', until = ? WHERE id = ? AND kind IN ('allocation', 'reserved')`, engine.Nanos(until), id)
	return engine.Wrap(err, "quarantine the range %d", id)
}

func (g ranges) Remove(id int64) error {
	return engine.Wrap(g.t.change(`DELETE FROM ranges WHERE id = ?`, id), "remove the range %d", id)
}

func (g ranges) Sweep(now time.Time) (int, error) {
	n, err := g.t.exec(`DELETE FROM ranges WHERE until <= ?`, engine.Nanos(now))
	return n, engine.Wrap(err, "remove what left quarantine")
}
