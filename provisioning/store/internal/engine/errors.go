package engine

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
)

// Wrap says what was being done, if it failed.
func Wrap(err error, format string, a ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf(format+": %w", append(a, err)...)
}

// Orphan turns the store.ErrInUse of an insert, which is how an engine reads a foreign key that fails, into store.ErrNotFound.
func Orphan(err error) error {
	if errors.Is(err, store.ErrInUse) {
		return fmt.Errorf("%w: what it refers to", store.ErrNotFound)
	}
	return err
}

// CheckPrefix refuses what is no prefix of a plan: host bits, IPv4 mapped into IPv6.
func CheckPrefix(p netip.Prefix) error {
	if !p.IsValid() || p.Addr().Is4In6() || p != p.Masked() {
		return provisioning.Errorf(provisioning.Invalid, "%v is no prefix of a plan", p).
			WithHint("write the network's own address and a length, such as 10.64.0.0/10")
	}
	return nil
}

// CheckAddress refuses what is no address for a Node: IPv4 mapped into IPv6, a zone.
func CheckAddress(a netip.Addr) error {
	if !a.IsValid() || a.Is4In6() || a.Zone() != "" {
		return provisioning.Errorf(provisioning.Invalid, "%v is no address for a node", a)
	}
	return nil
}

// CheckQuarantine refuses one that never ends.
func CheckQuarantine(until time.Time) error {
	if until.IsZero() {
		return provisioning.Errorf(provisioning.Invalid, "a quarantine needs an end")
	}
	return nil
}

// InTheWay adds to a store.ErrOverlap of a range of some kind the first of others that it may not overlap.
func InTheWay(err error, kind provisioning.RangeKind, others []provisioning.Range) error {
	for _, o := range others {
		if excludes(kind, o.Kind) {
			return fmt.Errorf("%w: %v, %s", err, o.Prefix, describe(o))
		}
	}
	return err
}

// excludes says which kinds the schemas keep apart. It only words an error.
func excludes(a, b provisioning.RangeKind) bool {
	plan := func(k provisioning.RangeKind) bool {
		return k == provisioning.RangeAllocation || k == provisioning.RangeReserved
	}
	switch {
	case plan(a) && plan(b), a == provisioning.RangePool && b == a:
		return true
	case a == provisioning.RangeForeign:
		return b == provisioning.RangeAllocation
	}
	return a == provisioning.RangeAllocation && b == provisioning.RangeForeign
}

func describe(r provisioning.Range) string {
	switch {
	case !r.Until.IsZero():
		return fmt.Sprintf("%s in quarantine until %s", r.Kind, r.Until.Format(time.DateOnly))
	case r.Owner != "":
		return fmt.Sprintf("%s of %s", r.Kind, r.Owner)
	}
	return string(r.Kind)
}
