package coordinator

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/wire"
)

func TestTranslationOf(t *testing.T) {
	facts := wire.Facts{LANs: []netip.Prefix{netip.MustParsePrefix("192.168.178.0/24")}, WANs: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/29")}}
	for origin, want := range map[string]Translation{
		"": TranslationUnknown, "192.168.178.20": TranslationNone, "203.0.113.2": TranslationNone, "127.0.0.1": TranslationNone, "198.51.100.7": TranslationRouter,
		"100.64.3.4": TranslationCarrier, "100.128.3.4": TranslationRouter, "10.1.2.3": TranslationPrivate, "192.168.179.1": TranslationPrivate,
		"fd00::7": TranslationPrivate, "2001:db8::7": TranslationRouter, "fe80::1": TranslationPrivate,
	} {
		n := provisioning.Node{Facts: facts}
		if origin != "" {
			n.Origin = netip.MustParseAddr(origin)
		}
		if got := translationOf(n); got != want {
			t.Errorf("%s: %s, want %s", origin, got, want)
		}
	}
}

func TestDetailCompares(t *testing.T) {
	p := netip.MustParsePrefix
	n := provisioning.Node{Kind: wire.Gateway, Facts: wire.Facts{LANs: []netip.Prefix{p("192.168.1.0/24"), p("172.20.0.0/16"), p("fd01::/64")}}}
	ranges := []provisioning.Range{
		{Kind: provisioning.RangeAllocation, Purpose: provisioning.PurposeOverlay, Prefix: p("10.201.1.0/28")},
		{Kind: provisioning.RangeAllocation, Purpose: provisioning.PurposeWorkstation, Prefix: p("10.201.2.0/28")},
		{Kind: provisioning.RangeAllocation, Purpose: provisioning.PurposeOverlay, Prefix: p("10.201.3.0/28"), Until: time.Unix(1, 0)},
		{Kind: provisioning.RangeLAN, Prefix: p("192.168.0.0/16")},
		{Kind: provisioning.RangeLAN, Prefix: p("10.9.0.0/24")},
		{Kind: provisioning.RangeReported, Prefix: p("192.168.1.0/24")},
	}
	var d NodeDetail
	d.compare(n, ranges)
	if !slices.Equal(d.Prefixes, []netip.Prefix{p("10.201.1.0/28")}) || !slices.Equal(d.LANs, []netip.Prefix{p("192.168.0.0/16"), p("10.9.0.0/24")}) {
		t.Errorf("planned are %v and %v", d.Prefixes, d.LANs)
	}
	// Nobody has entered a network of IPv6, so nothing can be said of that one.
	if !slices.Equal(d.Unplanned, []netip.Prefix{p("172.20.0.0/16")}) || !slices.Equal(d.Missing, []netip.Prefix{p("10.9.0.0/24")}) {
		t.Errorf("unplanned are %v, missing %v", d.Unplanned, d.Missing)
	}
	six := provisioning.Node{Kind: wire.Gateway, Facts: wire.Facts{LANs: []netip.Prefix{p("fd01::/64")}}}
	d = NodeDetail{}
	d.compare(six, ranges)
	if len(d.Unplanned) != 0 || len(d.Missing) != 2 {
		t.Errorf("of a box with IPv6 alone, unplanned are %v, missing %v", d.Unplanned, d.Missing)
	}
	n.Kind, d = wire.Workstation, NodeDetail{}
	d.compare(n, ranges)
	if !slices.Equal(d.Prefixes, []netip.Prefix{p("10.201.2.0/28")}) || d.Unplanned != nil || d.Missing != nil {
		t.Errorf("for a workstation: %+v", d)
	}
	d = NodeDetail{}
	d.compare(provisioning.Node{Kind: wire.Gateway, Facts: n.Facts}, nil)
	if d.Unplanned != nil || d.Missing != nil {
		t.Errorf("with nothing planned: %+v", d)
	}
}
