package provisioning

import (
	"errors"
	"net/netip"
	"testing"
	"time"
)

// TestValidateRange changes one thing in a mapped allocation, which has everything that a Range can have; what each kind must and must not
// have is tested with the databases.
func TestValidateRange(t *testing.T) {
	good := Range{
		Kind: RangeAllocation, Prefix: netip.MustParsePrefix("10.64.1.0/24"), Owner: "site_a", Purpose: PurposeMapped, Label: "x-ray",
		Maps: netip.MustParsePrefix("192.168.178.0/24"),
	}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(*Range){
		"no prefix":            func(r *Range) { r.Prefix = netip.Prefix{} },
		"host bits":            func(r *Range) { r.Prefix = netip.MustParsePrefix("10.64.1.7/24") },
		"IPv4 dressed as IPv6": func(r *Range) { r.Prefix = netip.MustParsePrefix("::ffff:10.64.1.0/120") },
		"no kind":              func(r *Range) { r.Kind = "" },
		"no purpose":           func(r *Range) { r.Purpose = "" },
		"a box's purpose":      func(r *Range) { r.Purpose = PurposeWAN },
		"another purpose":      func(r *Range) { r.Purpose = PurposeServices },
		"nothing to stand for": func(r *Range) { r.Maps = netip.Prefix{} },
		"a shorter LAN":        func(r *Range) { r.Maps = netip.MustParsePrefix("192.168.0.0/16") },
		"a LAN with host bits": func(r *Range) { r.Maps = netip.MustParsePrefix("192.168.178.1/24") },
		"a LAN of IPv6":        func(r *Range) { r.Maps = netip.MustParsePrefix("fd00::/24") },
		"a pool with an owner": func(r *Range) { *r = Range{Kind: RangePool, Prefix: r.Prefix, Owner: r.Owner} },
		"a LAN without owner":  func(r *Range) { *r = Range{Kind: RangeLAN, Prefix: r.Prefix} },
		"a LAN with a label":   func(r *Range) { *r = Range{Kind: RangeLAN, Prefix: r.Prefix, Owner: r.Owner, Label: r.Label} },
		"a LAN with a purpose": func(r *Range) { *r = Range{Kind: RangeLAN, Prefix: r.Prefix, Owner: r.Owner, Purpose: PurposeLAN} },
		"a LAN that maps":      func(r *Range) { *r = Range{Kind: RangeLAN, Prefix: r.Prefix, Owner: r.Owner, Maps: r.Maps} },
		"reported for a reason": func(r *Range) {
			*r = Range{Kind: RangeReported, Prefix: r.Prefix, Owner: r.Owner, Purpose: PurposeOverlay}
		},
		"a foreign that ends": func(r *Range) { *r = Range{Kind: RangeForeign, Prefix: r.Prefix, Until: time.Unix(1, 0)} },
		"a reserved that ends": func(r *Range) {
			*r = Range{Kind: RangeReserved, Prefix: r.Prefix, Owner: r.Owner, Until: time.Unix(1, 0)}
		},
	} {
		bad := good
		change(&bad)
		if e, ok := errors.AsType[*Error](bad.Validate()); !ok || e.Code != Invalid || e.Hint == "" {
			t.Errorf("%s: %v, want it invalid, with a hint", what, e)
		}
	}
}
