package turn_test

import (
	"net/netip"
	"testing"

	"github.com/towpath/towpath/tunnel/kernel"
	"github.com/towpath/towpath/tunnel/tunneltest"
)

func inKernel(t testing.TB, n int) []tunneltest.Node {
	tunneltest.NeedRoot(t)
	if err := kernel.Available(); err != nil {
		t.Skip(err)
	}
	s := tunneltest.NewSwitch(t)
	nodes := make([]tunneltest.Node, n)
	for i := range nodes {
		ns := tunneltest.NewNamespace(t)
		s.Plug(ns, netip.PrefixFrom(underlay(i+1), 24))
		d, err := kernel.New(kernel.Options{})
		if err != nil {
			t.Fatal(err)
		}
		nodes[i] = wrap(t, ns.Inside(d), underlay(i+1))
	}
	return nodes
}

func TestContractKernel(t *testing.T) {
	inKernel(t, 0) // skips the whole, and not each part
	tunneltest.Device(t, inKernel)
}

func TestStreamSurvivesInTheKernel(t *testing.T) {
	testStreamSurvives(t, newPair(t, inKernel(t, 2)...))
}
