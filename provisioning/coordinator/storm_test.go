package coordinator_test

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/coordinator"
	"github.com/towpath/towpath/provisioning/provisioningtest"
)

// TestRestartStorm stops a coordinator whose nodes all watch, changes all their maps meanwhile, and lets all come back to a new one in one
// moment: each gets its newest map once. When the same happens without a change, nobody gets any.
func TestRestartStorm(t *testing.T) {
	clinics := 2000
	if testing.Short() {
		clinics = 200
	}
	f := launch(t, clinics)
	comeBack := func() {
		f.Network = provisioningtest.Open(t, f.Store, provisioningtest.Options{Keys: f.Keys})
		for _, n := range f.nodes {
			f.Adopt(n)
		}
		f.watch(t, len(f.nodes))
		f.await(0, len(f.nodes), f.generation(t))
	}
	maps := func() []int {
		var all []int
		for _, n := range f.nodes {
			all = append(all, n.Maps())
		}
		return all
	}
	f.stop()
	pool, had := netip.MustParsePrefix("10.177.0.0/16"), maps()
	if _, err := f.AddRange(t.Context(), "test", coordinator.NewRange{Kind: provisioning.RangePool, Prefix: pool}); err != nil {
		t.Fatal(err)
	}
	comeBack()
	gen := f.generation(t)
	for i, n := range f.nodes {
		if n.Generation() != gen || !slices.Contains(n.Map().Overlay, pool) || n.Maps() != had[i]+1 || n.Misfits() != 0 {
			t.Fatalf("node %d: generation %d of %d, %d maps after %d, %d misfits, overlay %v", i, n.Generation(), gen, n.Maps(), had[i], n.Misfits(), n.Map().Overlay)
		}
	}
	f.stop()
	had = maps()
	comeBack()
	f.stop()
	if now := maps(); !slices.Equal(now, had) {
		t.Error("who had the newest map got it again")
	}
}
