package reconcile_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/gateway/reconcile"
	"github.com/towpath/towpath/provisioning/wire"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func at(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// overlayListeners are the addresses of the overlay side, each with its first service.
func overlayListeners(d reconcile.Desired) []string {
	var list []string
	for _, l := range d.Listeners {
		if l.Side == reconcile.Overlay && l.Protocol != "transfer" {
			list = append(list, l.Address+" "+l.Routes[0].Service)
		}
	}
	return list
}

// severalPlaces is clinicMap with a former address, a mapped place of the results service, and a second service at an address of its own
// with the same port.
func severalPlaces(t *testing.T) wire.NetMap {
	t.Helper()
	m := clinicMap(t)
	m.Self.Former = addr("10.201.1.77")
	m.Offers[0].Also = []netip.AddrPort{at("10.201.7.9:2575")}
	m.Offers = append(m.Offers, wire.Offer{
		Service: "ct", Protocol: wire.DICOM, AETitle: "CT", Port: 104, Target: "192.168.1.20:104", From: m.Offers[0].From,
		Also: []netip.AddrPort{at("10.201.8.1:2575")},
	})
	return m
}

func TestCompileAllPlaces(t *testing.T) {
	d := compiled(t, severalPlaces(t))
	want := []string{
		"10.201.1.1:104 ct", "10.201.1.1:2575 results", "10.201.1.77:104 ct", "10.201.1.77:2575 results", "10.201.7.9:2575 results",
		"10.201.8.1:2575 ct",
	}
	if diff := cmp.Diff(want, overlayListeners(d)); diff != "" {
		t.Errorf("listeners (-want +got):\n%s", diff)
	}
	own := []netip.Prefix{}
	for _, s := range []string{"10.201.1.1/32", "10.201.1.77/32", "10.201.7.9/32", "10.201.8.1/32"} {
		own = append(own, netip.MustParsePrefix(s))
	}
	if !slices.Equal(d.Tunnel.Addresses, own) {
		t.Errorf("addresses %v, want %v: what the box dials comes from the first", d.Tunnel.Addresses, own)
	}
	if len(d.Problems) != 0 {
		t.Errorf("problems: %v", d.Problems)
	}
	for _, l := range d.Listeners {
		if l.Side == reconcile.Overlay && len(l.Allow) != 1 {
			t.Errorf("%s lets %v in", l.Address, l.Allow)
		}
	}
}

// A place that cannot be this box's is named and left out; the service is still at the others, and the tunnel takes the rest.
func TestCompileRefusesPlacesOfOthers(t *testing.T) {
	for name, place := range map[string]string{
		"outside of the plan": "192.168.1.10:2575", "a peer's": "10.201.0.17:2575", "the hub's": "10.201.0.1:2575", "without a port": "10.201.7.9:0",
	} {
		m := severalPlaces(t)
		m.Offers[0].Also = []netip.AddrPort{at(place)}
		d := compiled(t, m)
		if len(d.Problems) != 1 || !strings.Contains(d.Problems[0].Message, place) || len(overlayListeners(d)) != 5 {
			t.Errorf("%s: %v, listeners %v", name, d.Problems, overlayListeners(d))
		}
		if slices.Contains(d.Tunnel.Addresses, netip.PrefixFrom(at(place).Addr(), 32)) && at(place).Port() != 0 {
			t.Errorf("%s: the tunnel takes it as its own: %v", name, d.Tunnel.Addresses)
		}
	}
	m := severalPlaces(t)
	m.Self.Former = addr("192.168.1.1")
	if d := compiled(t, m); len(d.Problems) != 2 || len(d.Tunnel.Addresses) != 3 {
		t.Errorf("a former address outside of the plan: %v, addresses %v", d.Problems, d.Tunnel.Addresses)
	}
	m = severalPlaces(t)
	m.Offers[0].Also = append(m.Offers[0].Also, at("10.201.1.1:2575"), at("10.201.7.9:2575"))
	if d := compiled(t, m); len(d.Problems) != 0 || len(overlayListeners(d)) != 6 {
		t.Errorf("a place named twice: %v, listeners %v", d.Problems, overlayListeners(d))
	}
}

// Pools may nest; the routes that fail closed are for each of them.
func TestCompileNestedPools(t *testing.T) {
	m := clinicMap(t)
	m.Overlay = append(m.Overlay, netip.MustParsePrefix("10.201.0.0/20"), netip.MustParsePrefix("10.201.1.0/24"))
	if d := compiled(t, m); !slices.Equal(d.Tunnel.Blackhole, m.Overlay) || len(d.Problems) != 0 {
		t.Errorf("blackhole %v, problems %v", d.Tunnel.Blackhole, d.Problems)
	}
}
