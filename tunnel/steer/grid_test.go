package steer_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// figures are what one pair of the grid takes.
type figures struct {
	tunnel, direct, fall time.Duration
	lost                 int
	isDirect             bool
}

// Every pair of NAT kinds has a tunnel; every pair that can is direct soon, loses next to nothing on the way there, and falls back.
func TestGrid(t *testing.T) {
	var all []time.Duration
	for _, v6 := range []bool{false, true} {
		kinds := places(relayAt(v6))
		for i, a := range kinds {
			for j, b := range kinds {
				if testing.Short() && (i+j)%3 != 0 {
					continue
				}
				name := fmt.Sprintf("%s×%s v6=%v", a.name, b.name, v6)
				var f figures
				synctest.Test(t, func(t *testing.T) { f = measure(t, v6, [2]place{a, b}) })
				if f.isDirect != direct(a, b) {
					t.Errorf("%s: direct %v, want %v", name, f.isDirect, direct(a, b))
				}
				if f.lost > 6 {
					t.Errorf("%s: %d packets lost at the promotion", name, f.lost)
				}
				if f.isDirect {
					all = append(all, f.direct)
				}
				t.Logf("%-34s tunnel %v direct %v (%v) lost %d back %v", name, f.tunnel, f.isDirect, f.direct, f.lost, f.fall)
			}
		}
	}
	slices.Sort(all)
	median := all[len(all)/2]
	t.Logf("%d direct pairs: median %v, longest %v", len(all), median, all[len(all)-1])
	if median > 400*time.Millisecond {
		t.Errorf("median time to direct is %v", median)
	}
}

func measure(t *testing.T, v6 bool, kinds [2]place) (f figures) {
	w := newWorld(t, v6, kinds)
	defer w.close()
	f.tunnel = w.tunnel()
	if f.tunnel > time.Second {
		t.Errorf("time to tunnel: %v", f.tunnel)
	}
	lost := make(chan int, 1)
	go func() { lost <- w.traffic(4 * time.Second) }()
	time.Sleep(time.Second)
	w.reveal(100 * time.Millisecond)
	f.direct, f.isDirect = w.until(2*time.Second, isDirect)
	f.lost = <-lost
	if !f.isDirect {
		return f
	}
	// The direct way dies, the relay does not.
	go func() { lost <- w.traffic(5 * time.Second) }()
	time.Sleep(500 * time.Millisecond)
	w.net.Lose(func(src, dst netip.AddrPort) bool { return src != w.relay && dst != w.relay })
	back, ok := w.until(3*time.Second, isRelayed)
	if !ok {
		t.Error("no way back to the relay within 3 s")
	}
	f.fall = back
	<-lost
	for _, n := range w.nodes {
		if gap := time.Duration(n.gap.Load()); gap > 3*time.Second {
			t.Errorf("nothing arrived for %v", gap)
		}
	}
	return f
}
