package coordinator_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/towpath/towpath/ipam/plandoc"
	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/coordinator"
	"github.com/towpath/towpath/provisioning/provisioningtest"
	"github.com/towpath/towpath/provisioning/store"
)

// benchPool has room for the largest plan, 100,000 allocations of 8 to 64 addresses.
const benchPool = "10.0.0.0/9"

var engines = []struct {
	name string
	open func(testing.TB) store.Store
}{{"sqlite", openStore}, {"postgres", openPostgres}}

// lines is a document of n allocations of mixed sizes, each of its own site, some of which take what the line before has.
func lines(n, conflicts int) plandoc.Document {
	var d plandoc.Document
	next, last := uint32(10<<24|1<<16), uint32(0)
	for i := range n {
		bits := 26 + i%4
		size := uint32(1) << (32 - bits)
		next = (next + size - 1) / size * size
		at := next
		if i%2 == 1 && i < 2*conflicts {
			at = last
		} else {
			last = at
			next += size
		}
		d.Entries = append(d.Entries, plandoc.Entry{
			Kind: plandoc.Allocation, Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(at >> 24), byte(at >> 16), byte(at >> 8), byte(at)}), bits).Masked(),
			Owner: fmt.Sprintf("Praxis %d", i), Purpose: plandoc.Overlay, Note: "from the spreadsheet", Line: i + 2,
		})
	}
	return d
}

// planOf is a network with n allocations, which a document brings.
func planOf(b *testing.B, st store.Store, n int) *provisioningtest.Network {
	b.Helper()
	c := provisioningtest.New(b, st, provisioningtest.Options{Init: coordinator.InitOptions{Pools: []netip.Prefix{prefix(benchPool)}}})
	d := lines(n, 0)
	for i := range d.Entries {
		// Ten sites have all of them: this is about ranges.
		d.Entries[i].Owner = fmt.Sprintf("site-%d", i%10)
	}
	r, err := c.Import(b.Context(), "bench", d, coordinator.ImportOptions{CreateSites: true})
	if err != nil || !r.Done {
		b.Fatal(err, r.Problems)
	}
	return c
}

// BenchmarkAllocate is one allocation through the coordinator, committed, in a plan of n: it must not read the plan each time.
func BenchmarkAllocate(b *testing.B) {
	for _, e := range engines {
		for _, n := range []int{1_000, 10_000, 100_000} {
			c := planOf(b, e.open(b), n)
			allocate := func(b *testing.B, i int) {
				b.Helper()
				if _, err := c.Allocate(b.Context(), "bench", coordinator.NewAllocation{
					Site: "site-1", Purpose: provisioning.PurposeServices, Size: coordinator.Size{Bits: 26 + i%4},
				}); err != nil {
					b.Fatal(err)
				}
			}
			// The first builds the index, and the engine tidies up after so large a change.
			for i := range 20 {
				allocate(b, i)
			}
			b.Run(fmt.Sprintf("%s/%d", e.name, n), func(b *testing.B) {
				for i := 0; b.Loop(); i++ {
					allocate(b, i)
				}
			})
		}
	}
}

// BenchmarkImport takes over a spreadsheet of 10,000 clinics, and finds 50 conflicts in one.
func BenchmarkImport(b *testing.B) {
	for _, e := range engines {
		b.Run(e.name+"/50 conflicts", func(b *testing.B) {
			c := provisioningtest.New(b, e.open(b), provisioningtest.Options{Init: coordinator.InitOptions{Pools: []netip.Prefix{prefix(benchPool)}}})
			d := lines(10_000, 50)
			for b.Loop() {
				r, err := c.Import(b.Context(), "bench", d, coordinator.ImportOptions{CreateSites: true, DryRun: true})
				if err != nil || len(r.Problems) != 50 {
					b.Fatal(err, len(r.Problems), r.Problems[:min(3, len(r.Problems))])
				}
			}
		})
		b.Run(e.name+"/taken over", func(b *testing.B) {
			d := lines(10_000, 0)
			for b.Loop() {
				b.StopTimer()
				c := provisioningtest.New(b, e.open(b), provisioningtest.Options{Init: coordinator.InitOptions{Pools: []netip.Prefix{prefix(benchPool)}}})
				b.StartTimer()
				r, err := c.Import(b.Context(), "bench", d, coordinator.ImportOptions{CreateSites: true})
				if err != nil || !r.Done || len(r.Sites) != 10_000 {
					b.Fatal(err, r.Problems)
				}
			}
		})
	}
}
