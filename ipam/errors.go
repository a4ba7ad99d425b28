package ipam

import (
	"errors"
	"fmt"
	"net/netip"
)

// ErrMalformed is wrapped by every error about a prefix or a length that no plan can hold: not valid, with bits set beyond its length,
// of the other address family, or an IPv4 address dressed as IPv6.
var ErrMalformed = errors.New("malformed prefix")

// FullError says that no free block is large enough.
type FullError struct {
	Pool netip.Prefix
	// Bits is the length that was wanted.
	Bits int
	// Largest is the largest free block, the zero Prefix when nothing is free.
	Largest netip.Prefix
}

func (e *FullError) Error() string {
	if !e.Largest.IsValid() {
		return fmt.Sprintf("the pool %v is full", e.Pool)
	}
	return fmt.Sprintf("the pool %v has no free /%d: its largest free block is %v", e.Pool, e.Bits, e.Largest)
}

// OverlapError says which two prefixes share addresses.
type OverlapError struct {
	Prefix, With netip.Prefix
}

func (e *OverlapError) Error() string { return fmt.Sprintf("%v overlaps %v", e.Prefix, e.With) }

// NotTakenError says that a prefix was to be released which is not taken.
type NotTakenError struct {
	Prefix netip.Prefix
}

func (e *NotTakenError) Error() string { return fmt.Sprintf("%v is not taken", e.Prefix) }

// UnsuitableError says why a prefix makes a bad pool.
type UnsuitableError struct {
	Prefix netip.Prefix
	// Meets is the well-known range that Prefix overlaps; the zero Prefix when the reason is another.
	Meets netip.Prefix
	// Reason is a clause that completes "…: ".
	Reason string
}

func (e *UnsuitableError) Error() string {
	if !e.Meets.IsValid() || e.Meets == e.Prefix {
		return fmt.Sprintf("%v is unsuitable as a pool: %s", e.Prefix, e.Reason)
	}
	return fmt.Sprintf("%v is unsuitable as a pool, it meets %v: %s", e.Prefix, e.Meets, e.Reason)
}
