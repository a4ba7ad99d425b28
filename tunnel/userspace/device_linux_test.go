package userspace_test

import (
	"fmt"
	"log/slog"
	"net/netip"
	"testing"

	"github.com/towpath/towpath/tunnel/tunneltest"
	"github.com/towpath/towpath/tunnel/userspace"
)

func TestContract(t *testing.T) {
	tunneltest.NeedRoot(t)
	tunneltest.Device(t, inNamespaces)
}

func inNamespaces(t testing.TB, n int) []tunneltest.Node {
	s := tunneltest.NewSwitch(t)
	nodes := make([]tunneltest.Node, n)
	for i := range nodes {
		a := netip.AddrFrom4([4]byte{198, 51, 100, byte(i + 1)})
		ns := tunneltest.NewNamespace(t)
		s.Plug(ns, netip.PrefixFrom(a, 24))
		// One name per node: the configuration sockets of all namespaces are in one directory.
		d, err := userspace.New(userspace.Options{Interface: fmt.Sprintf("towtest%d", i), Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
		if err != nil {
			t.Fatal(err)
		}
		inside := ns.Inside(d)
		t.Cleanup(func() {
			if err := inside.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
		nodes[i] = tunneltest.Node{Device: inside, Underlay: a}
	}
	return nodes
}
