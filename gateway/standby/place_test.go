package standby_test

import (
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/towpath/towpath/gateway/standby"
	"github.com/towpath/towpath/provisioning/wire"
)

func prefixes(all ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(all))
	for i, p := range all {
		out[i] = netip.MustParsePrefix(p)
	}
	return out
}

// clinicMap uses two services of a center with three gateways: one at an address of its own, the other at the boxes' port. Another center has one.
func clinicMap() wire.NetMap {
	use := func(service, site, at string) wire.Use {
		return wire.Use{Service: service, Site: site, Address: netip.MustParseAddrPort(at)}
	}
	return wire.NetMap{
		Self: wire.Self{Node: "me", Site: "nord", SiteKind: wire.Clinic, Address: netip.MustParseAddr("100.64.1.1")},
		Peers: []wire.Peer{
			{Node: "a", Site: "lab", AllowedIPs: prefixes("100.64.0.1/32", "100.64.9.0/28", "100.64.9.77/32")},
			{Node: "b", Site: "lab", AllowedIPs: prefixes("100.64.0.2/32", "100.64.0.99/32")},
			{Node: "c", Site: "lab", AllowedIPs: prefixes("100.64.0.3/32")},
			{Node: "x", Site: "other", AllowedIPs: prefixes("100.64.7.1/32")},
		},
		Uses:   []wire.Use{use("his", "lab", "100.64.0.1:2575"), use("pacs", "lab", "100.64.9.77:104"), use("far", "other", "100.64.7.1:104")},
		Shared: []wire.Shared{{Site: "lab", Gateways: []string{"a", "b", "c"}, Prefixes: prefixes("100.64.9.0/28", "100.64.9.77/32")}},
	}
}

func TestPlace(t *testing.T) {
	m := clinicMap()
	before := clinicMap()
	got := standby.Place(m, map[string]string{"lab": "b", "other": "x"})
	if !reflect.DeepEqual(m, before) {
		t.Error("Place changed what it was given")
	}
	want := clinicMap()
	want.Peers[0].AllowedIPs = prefixes("100.64.0.1/32")
	want.Peers[1].AllowedIPs = prefixes("100.64.0.2/32", "100.64.0.99/32", "100.64.9.0/28", "100.64.9.77/32")
	want.Uses[0].Address = netip.MustParseAddrPort("100.64.0.2:2575")
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	for _, active := range []map[string]string{nil, {"lab": "a"}, {"lab": "gone"}, {"other": "b"}, {"nord": "b"}} {
		if got := standby.Place(m, active); !reflect.DeepEqual(got, before) {
			t.Errorf("%v changes the map", active)
		}
	}
}

func TestPlaceRefusesWhatIsNotOneCenters(t *testing.T) {
	for name, spoil := range map[string]func(*wire.NetMap){
		"another site's gateway": func(m *wire.NetMap) { m.Shared[0].Gateways = []string{"a", "x"} },
		"no peer":                func(m *wire.NetMap) { m.Shared[0].Gateways = []string{"a", "gone"} },
		"one twice":              func(m *wire.NetMap) { m.Shared[0].Gateways = []string{"a", "a"} },
		"one alone":              func(m *wire.NetMap) { m.Shared[0].Gateways = []string{"a"} },
		"a workstation":          func(m *wire.NetMap) { m.Peers[1].Kind = wire.Workstation },
		"another's address":      func(m *wire.NetMap) { m.Shared[0].Prefixes = prefixes("100.64.7.1/32") },
		"nobody's address":       func(m *wire.NetMap) { m.Shared[0].Prefixes = prefixes("100.64.9.0/24") },
		"the last address":       func(m *wire.NetMap) { m.Shared[0].Prefixes = prefixes("100.64.0.1/32") },
		"without an address":     func(m *wire.NetMap) { m.Peers[1].AllowedIPs = nil },
		"its own site":           func(m *wire.NetMap) { m.Self.Site = "lab" },
	} {
		t.Run(name, func(t *testing.T) {
			m := clinicMap()
			spoil(&m)
			for _, to := range append([]string{"b"}, m.Shared[0].Gateways...) {
				if got := standby.Place(m, map[string]string{"lab": to}); !reflect.DeepEqual(got, m) {
					t.Errorf("it moved to %s: %+v", to, got.Peers)
				}
			}
			if g := standby.Groups(m); g != nil {
				t.Errorf("groups %+v", g)
			}
		})
	}
}

func TestGroups(t *testing.T) {
	gateways := []standby.Member{
		{Node: "a", Address: netip.MustParseAddr("100.64.0.1")},
		{Node: "b", Address: netip.MustParseAddr("100.64.0.2")},
		{Node: "c", Address: netip.MustParseAddr("100.64.0.3")},
	}
	want := []standby.Group{{Site: "lab", Services: []string{"his", "pacs"}, Gateways: gateways}}
	if got := standby.Groups(clinicMap()); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// TestPlaceLosesNothing moves to anybody: every prefix leads to one peer of the site that had it, own addresses stay, and each use leads to the
// active gateway.
func TestPlaceLosesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := clinicMap()
		for range rapid.IntRange(0, 3).Draw(t, "fewer") {
			m.Shared[0].Prefixes = m.Shared[0].Prefixes[:max(0, len(m.Shared[0].Prefixes)-1)]
		}
		to := rapid.SampledFrom([]string{"a", "b", "c", "x", ""}).Draw(t, "to")
		got := standby.Place(m, map[string]string{"lab": to})
		active := 0
		if i := slices.Index(m.Shared[0].Gateways, to); i >= 0 {
			active = i
		}
		var all, was []netip.Prefix
		for i, p := range got.Peers {
			all, was = append(all, p.AllowedIPs...), append(was, m.Peers[i].AllowedIPs...)
			if p.AllowedIPs[0] != m.Peers[i].AllowedIPs[0] {
				t.Fatalf("%s lost its own address", p.Node)
			}
			for _, q := range p.AllowedIPs {
				if !slices.Contains(m.Peers[i].AllowedIPs, q) && (i != active || !slices.Contains(m.Shared[0].Prefixes, q)) {
					t.Fatalf("%s has %v", p.Node, q)
				}
			}
		}
		slices.SortFunc(all, netip.Prefix.Compare)
		slices.SortFunc(was, netip.Prefix.Compare)
		if !slices.Equal(all, was) {
			t.Fatalf("%v leads somewhere, before %v", all, was)
		}
		if u := got.Uses[0].Address.Addr(); u != got.Peers[active].AllowedIPs[0].Addr() {
			t.Fatalf("what has no address of its own is used at %v", u)
		}
	})
}
