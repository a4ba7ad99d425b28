package postgres

import (
	"net/netip"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store/internal/engine"
)

// rangeColumns are what ranges and range_history have in common, in the order of rangeScan.
const rangeColumns = `kind, prefix, owner, purpose, coalesce(label, ''), maps, note, created, until`

// rangeScan holds the columns of a Range that are written otherwise than its fields.
type rangeScan struct{ created, until engine.Stamp }

// into returns where the columns go.
func (c *rangeScan) into(v *provisioning.Range) []any {
	return []any{
		text(&v.Kind), &v.Prefix, text(&v.Owner), text(&v.Purpose), text(&v.Label), &v.Maps, text(&v.Note), &c.created, &c.until,
	}
}

// finish fills in what was not scanned into v itself.
func (c *rangeScan) finish(v *provisioning.Range) {
	v.Created, v.Until = c.created.Time, c.until.Time
}

// rangeArgs are the columns kind, prefix, owner, purpose, label, maps, note, created and until of a Range.
func rangeArgs(r provisioning.Range) []any {
	return []any{
		r.Kind, r.Prefix, r.Owner, r.Purpose, maybeLabel(r.Label), maybePrefix(r.Maps), r.Note, engine.Nanos(r.Created), engine.Nanos(r.Until),
	}
}

// maybeLabel is a label as a column: NULL for none, so that it may be missing more than once.
func maybeLabel(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// maybePrefix is a prefix as a column that is NULL for the zero value.
func maybePrefix(p netip.Prefix) any {
	if !p.IsValid() {
		return nil
	}
	return p
}
