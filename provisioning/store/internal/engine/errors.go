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

// CheckGeneration refuses what leaves no room in a signed 64-bit column.
func CheckGeneration(g uint64) error {
	if g >= 1<<62 {
		return provisioning.Errorf(provisioning.Invalid, "%d is no generation", g)
	}
	return nil
}

// CheckAddress refuses what is no address on the overlay: IPv4 mapped into IPv6, a zone.
func CheckAddress(a netip.Addr) error {
	if !a.IsValid() || a.Is4In6() || a.Zone() != "" {
		return provisioning.Errorf(provisioning.Invalid, "%v is no address on the overlay", a)
	}
	return nil
}

// CheckOptionalAddress is CheckAddress for what may be missing.
func CheckOptionalAddress(a netip.Addr) error {
	if a == (netip.Addr{}) {
		return nil
	}
	return CheckAddress(a)
}

// CheckAddresses checks the present and the former address of a Node.
func CheckAddresses(address, former netip.Addr) error {
	if former == address {
		return provisioning.Errorf(provisioning.Invalid, "%v cannot be both the address of a node and its former one", address)
	}
	return errors.Join(CheckAddress(address), CheckOptionalAddress(former))
}

// CheckQuarantine refuses one that never ends.
func CheckQuarantine(until time.Time) error {
	if until.IsZero() {
		return provisioning.Errorf(provisioning.Invalid, "a quarantine needs an end")
	}
	return nil
}

// InTheWay adds to a store.ErrOverlap of r the first of others that it may not overlap.
func InTheWay(err error, r provisioning.Range, others []provisioning.Range) error {
	for _, o := range others {
		if excludes(r, o) || excludes(o, r) {
			return fmt.Errorf("%w: %v, %s", err, o.Prefix, describe(o))
		}
	}
	return err
}

// excludes says which of two that overlap the schemas keep apart, in one of the two orders. It only words an error.
func excludes(a, b provisioning.Range) bool {
	switch a.Kind {
	case provisioning.RangeAllocation:
		return b.Kind != provisioning.RangePool || a.Prefix.Bits() < b.Prefix.Bits()
	case provisioning.RangeReserved:
		return b.Kind == provisioning.RangeReserved
	case provisioning.RangePool:
		return b.Kind == provisioning.RangePool && a.Prefix == b.Prefix
	case provisioning.RangeLAN, provisioning.RangeReported:
		return b.Kind == provisioning.RangePool
	case provisioning.RangeForeign:
	}
	return false
}

func describe(r provisioning.Range) string {
	switch {
	case r.Quarantined():
		return fmt.Sprintf("%s in quarantine until %s", r.Kind, r.Until.Format(time.DateOnly))
	case r.Ending():
		return fmt.Sprintf("%s of %s until %s", r.Kind, r.Owner, r.Until.Format(time.DateOnly))
	case r.Owner != "":
		return fmt.Sprintf("%s of %s", r.Kind, r.Owner)
	}
	return string(r.Kind)
}
