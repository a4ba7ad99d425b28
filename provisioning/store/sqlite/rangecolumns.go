package sqlite

import (
	"net/netip"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store/internal/engine"
)

// mapped is the number of bits before an IPv4 address mapped into IPv6.
const mapped = 96

// rangeColumns are what ranges and range_history have in common, in the order of rangeScan.
const rangeColumns = `kind, family, bits, lo, owner, purpose, coalesce(label, ''), maps, note, created, until`

// rangeScan holds the columns of a Range that are written otherwise than its fields.
type rangeScan struct {
	family, bits   int
	lo             [16]byte
	maps           netip.Addr
	created, until engine.Stamp
}

// into returns where the columns go.
func (c *rangeScan) into(v *provisioning.Range) []any {
	return []any{
		&v.Kind, &c.family, &c.bits, engine.Fixed(c.lo[:]), &v.Owner, &v.Purpose, &v.Label, maybeAddr{&c.maps}, &v.Note, &c.created, &c.until,
	}
}

// finish fills in what was not scanned into v itself.
func (c *rangeScan) finish(v *provisioning.Range) {
	bits := c.bits
	if c.family == 4 {
		bits -= mapped
	}
	v.Prefix = netip.PrefixFrom(addrOf(c.lo), bits)
	if c.maps.IsValid() {
		v.Maps = netip.PrefixFrom(c.maps, bits)
	}
	v.Created, v.Until = c.created.Time, c.until.Time
}

// rangeArgs are the columns kind, family, bits, lo, hi, prefix_text, owner, purpose, label, maps, maps_text, note, created and until of a
// valid Range.
func rangeArgs(r provisioning.Range) []any {
	s := spanOf(r.Prefix)
	mapsText := ""
	if r.Maps.IsValid() {
		mapsText = r.Maps.String()
	}
	return []any{
		r.Kind, s.family, s.bits, s.lo, s.hi, r.Prefix.String(), r.Owner, r.Purpose, maybeLabel(r.Label), maybeBlobOf(r.Maps.Addr()), mapsText,
		r.Note, engine.Nanos(r.Created), engine.Nanos(r.Until),
	}
}

// maybeLabel is a label as a column: NULL for none, so that it may be missing more than once.
func maybeLabel(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// span is a prefix as the columns of the table.
type span struct {
	family, bits int
	lo, hi       []byte
}

// spanOf wants a valid prefix.
func spanOf(p netip.Prefix) span {
	s := span{family: 6, bits: p.Bits(), lo: blobOf(p.Addr()), hi: blobOf(p.Addr())}
	if p.Addr().Is4() {
		s.family, s.bits = 4, p.Bits()+mapped
	}
	for i := s.bits; i < 128; i++ {
		s.hi[i/8] |= 0x80 >> (i % 8)
	}
	return s
}
