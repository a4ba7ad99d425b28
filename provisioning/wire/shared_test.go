package wire_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/towpath/towpath/provisioning/wire"
)

// pairOf is the honest map of a clinic for a center with two gateways, nodes 0 and 4, and another center, node 5.
func pairOf(w signedWorld) wire.NetMap {
	m := w.honest(1, 0, 4, 5)
	own := netip.MustParsePrefix("10.201.1.99/32")
	m.Peers[0].AllowedIPs = append(m.Peers[0].AllowedIPs, own)
	m.Shared = []wire.Shared{{Site: "lab", Gateways: []string{"node_0", "node_4"}, Prefixes: []netip.Prefix{own}}}
	return m
}

// Where the key is offline, the coordinator can let nothing lead to a node that was not signed with it.
func TestRestrictShared(t *testing.T) {
	w := newSignedWorld(t)
	got, unsigned := wire.Restrict(pairOf(w), publicOf(w.network))
	if d := diffMaps(pairOf(w), got); d != "" || len(unsigned) > 0 {
		t.Fatalf("an honest map: %v, -before +after:\n%s", unsigned, d)
	}
	for name, c := range map[string]struct {
		spoil func(*wire.NetMap)
		says  string
	}{
		"another center's gateway": {func(m *wire.NetMap) { m.Shared[0].Gateways[1] = "node_5" }, "not signed as a gateway of this center"},
		"a stranger":               {func(m *wire.NetMap) { m.Shared[0].Gateways[1] = "node_9" }, "no signed peer"},
		"a prefix of another site": {func(m *wire.NetMap) {
			m.Shared[0].Prefixes = networks("10.201.4.0/24")
		}, "10.201.4.0/24 was not signed"},
		"a prefix outside of the plan": {func(m *wire.NetMap) { m.Shared[0].Prefixes = networks("0.0.0.0/0") }, "0.0.0.0/0 was not signed"},
		"the first is not signed":      {func(m *wire.NetMap) { m.Peers[0].Member = nil }, "no signed peer"},
		"the second is not signed":     {func(m *wire.NetMap) { m.Peers[1].Member = nil }, "no signed peer"},
		"under another site's name":    {func(m *wire.NetMap) { m.Shared[0].Site = "third" }, "not signed as a gateway of this center"},
		"a clinic's pair": {func(m *wire.NetMap) {
			m.Shared[0] = wire.Shared{Site: "nord", Gateways: []string{"node_1", "node_0"}}
			m.Self.Kind = wire.Workstation
			m.Self.Node, m.Self.PublicKey, m.Self.Member, m.Self.Address = "node_3", w.members[3].PublicKey, w.signed[3], w.addr(3)
		}, "cannot stand in"},
	} {
		t.Run(name, func(t *testing.T) {
			m := pairOf(w)
			c.spoil(&m)
			got, unsigned := wire.Restrict(m, publicOf(w.network))
			if len(got.Shared) > 0 {
				t.Errorf("it is believed: %+v", got.Shared)
			}
			if !slices.ContainsFunc(unsigned, func(u wire.Unsigned) bool { return strings.Contains(u.String(), c.says) }) {
				t.Errorf("%v says nothing of %q", unsigned, c.says)
			}
		})
	}
	m := pairOf(w)
	m.Shared[0].Gateways = append(m.Shared[0].Gateways, "node_5")
	if got, unsigned := wire.Restrict(m, publicOf(w.network)); len(unsigned) != 1 || len(got.Shared) != 1 || !slices.Equal(got.Shared[0].Gateways, []string{"node_0", "node_4"}) {
		t.Errorf("a third that was not signed: %+v, %v", got.Shared, unsigned)
	}
	if !slices.Equal(m.Shared[0].Gateways, []string{"node_0", "node_4", "node_5"}) {
		t.Error("Restrict changed what it was given")
	}
}
