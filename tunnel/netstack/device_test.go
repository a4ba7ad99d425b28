package netstack_test

import (
	"net/netip"
	"testing"

	"github.com/towpath/towpath/tunnel/netstack"
	"github.com/towpath/towpath/tunnel/tunneltest"
)

func TestContractInMemory(t *testing.T) {
	tunneltest.Device(t, inMemory)
}

func TestContractUDP(t *testing.T) {
	tunneltest.Device(t, func(t testing.TB, n int) []tunneltest.Node {
		nodes := make([]tunneltest.Node, n)
		for i := range nodes {
			nodes[i] = node(t, netstack.Options{}, netip.MustParseAddr("127.0.0.1"))
		}
		return nodes
	})
}

func inMemory(t testing.TB, n int) []tunneltest.Node {
	network := tunneltest.NewNetwork()
	nodes := make([]tunneltest.Node, n)
	for i := range nodes {
		a := netip.AddrFrom4([4]byte{198, 51, 100, byte(i + 1)})
		nodes[i] = node(t, netstack.Options{Bind: network.Bind(a)}, a)
	}
	return nodes
}

func node(t testing.TB, o netstack.Options, underlay netip.Addr) tunneltest.Node {
	t.Helper()
	d, err := netstack.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return tunneltest.Node{Device: d, Underlay: underlay}
}
