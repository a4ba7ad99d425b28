package coordinator_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/provisioning/coordinator"
	"github.com/towpath/towpath/provisioning/provisioningtest"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/wire"
)

// newFleet is a network of one center and clinics that all may use its archive.
func newFleet(t testing.TB, st store.Store, clinics int) (n *provisioningtest.Network, lab *provisioningtest.Node, boxes []*provisioningtest.Node) {
	t.Helper()
	n = provisioningtest.New(t, st, provisioningtest.Options{
		Init: coordinator.InitOptions{Pools: []netip.Prefix{provisioningtest.FleetPool()}, ForcePool: true},
	})
	n.Center(t, "lab", "192.0.2.1:51820")
	n.DICOM(t, "lab", "pacs", "PACS")
	lab = n.Node(t, "lab")
	boxes = n.Fleet(t, "pacs", clinics)
	return n, lab, boxes
}

// kind is what a frame carries.
func kind(f wire.Frame) string {
	switch {
	case f.NetMap != nil && f.Change == nil:
		return "map"
	case f.Change != nil && f.NetMap == nil:
		return "change"
	case f.Change == nil:
		return "none"
	}
	return "both"
}

// wantKind reads one frame, gives it to the node and looks at what it carries.
func wantKind(t *testing.T, s *provisioningtest.Stream, b *provisioningtest.Node, want, what string) wire.Frame {
	t.Helper()
	f := next(t, s)
	if got := kind(f); got != want {
		t.Errorf("%s: the frame carries %s, want %s", what, got, want)
	}
	if err := b.Take(f); err != nil {
		t.Errorf("%s: the node refuses it: %v", what, err)
	}
	return f
}

func TestChangesAreSentToThoseWhoTakeThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, lab, boxes := newFleet(t, openStore(t), 60)
		s := lab.Open(t.Context(), http.MethodGet, wire.Have{Diffs: true})
		defer s.Close()
		clinic := boxes[7].Open(t.Context(), http.MethodGet, boxes[7].Have())
		defer clinic.Close()
		whole := wantKind(t, s, lab, "map", "a node without a map")
		wantKind(t, clinic, boxes[7], "none", "a clinic that has its map")

		if err := n.Disallow(t.Context(), "test", "pacs", "clinic-00007"); err != nil {
			t.Fatal(err)
		}
		f := wantKind(t, s, lab, "change", "the center")
		if len(lab.Map().Peers) != 59 || 4*len(f.Change.Diff) > len(whole.NetMap.Payload) {
			t.Errorf("the center has %d peers after %d bytes", len(lab.Map().Peers), len(f.Change.Diff))
		}
		wantKind(t, clinic, boxes[7], "map", "the clinic, whose map is small")

		if err := n.SetSiteEndpoint(t.Context(), "test", "lab", "192.0.2.2:51820"); err != nil {
			t.Fatal(err)
		}
		if f := wantKind(t, s, lab, "none", "what concerns others"); f.Hash != lab.Have().Hash {
			t.Error("the frame does not say which map is due")
		}
	})
}

// TestWhatAChangeSendsDoesNotGrowWithTheNetwork holds that a change of one clinic is sent to its clinic and to its center in frames that are
// as large in a large network as in a small one, and to nobody else.
func TestWhatAChangeSendsDoesNotGrowWithTheNetwork(t *testing.T) {
	sent := func(clinics int) (toClinic, toCenter int64) {
		synctest.Test(t, func(t *testing.T) {
			n, lab, boxes := newFleet(t, openStore(t), clinics)
			open := func(b *provisioningtest.Node) *provisioningtest.Stream {
				s := b.Open(t.Context(), http.MethodGet, b.Have())
				t.Cleanup(func() { s.Close() })
				return s
			}
			clinic, center, other := open(boxes[7]), open(lab), open(boxes[8])
			wantKind(t, clinic, boxes[7], "none", "the clinic at first")
			wantKind(t, center, lab, "map", "the center at first") // it enrolled before there were clinics
			wantKind(t, other, boxes[8], "none", "another clinic at first")
			before := []int64{clinic.Bytes(), center.Bytes()}
			start := time.Now()
			if err := n.Disallow(t.Context(), "test", "pacs", "clinic-00007"); err != nil {
				t.Fatal(err)
			}
			wantKind(t, clinic, boxes[7], "map", "the clinic")
			wantKind(t, center, lab, "change", "the center")
			toClinic, toCenter = clinic.Bytes()-before[0], center.Bytes()-before[1]
			if waited := time.Since(start); waited > time.Second {
				t.Errorf("it took %v", waited)
			}
			if wantKind(t, other, boxes[8], "none", "another clinic"); time.Since(start) < wire.HeartbeatEvery-time.Second {
				t.Errorf("a clinic that the change does not concern heard of it after %v", time.Since(start))
			}
		})
		return toClinic, toCenter
	}
	many := 700
	if testing.Short() {
		many = 210
	}
	clinic, center := sent(70)
	clinicOfMany, centerOfMany := sent(many)
	if clinicOfMany > clinic*11/10 || centerOfMany > center*11/10 {
		t.Errorf("with %d clinics instead of 70, %d bytes instead of %d go to the clinic, and %d instead of %d to the center",
			many, clinicOfMany, clinic, centerOfMany, center)
	}
}

func TestOlderNodeGetsWholeMaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, lab, _ := newFleet(t, openStore(t), 60)
		old := lab.Watch(t.Context(), 0)
		defer old.Close()
		if f := next(t, old); kind(f) != "map" || !f.Hash.IsZero() {
			t.Errorf("it got %s and the hash %s", kind(f), f.Hash)
		}
		if err := n.Disallow(t.Context(), "test", "pacs", "clinic-00007"); err != nil {
			t.Fatal(err)
		}
		if f := next(t, old); kind(f) != "map" {
			t.Errorf("after a change it got %s", kind(f))
		}
	})
}

func TestSlowNodeGetsOneChangeForAllItMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, lab, _ := newFleet(t, openStore(t), 60)
		s := lab.Open(t.Context(), http.MethodGet, wire.Have{Diffs: true})
		defer s.Close()
		wantKind(t, s, lab, "map", "at first")
		for _, c := range []string{"clinic-00001", "clinic-00030", "clinic-00059"} {
			if err := n.Disallow(t.Context(), "test", "pacs", c); err != nil {
				t.Fatal(err)
			}
			synctest.Wait() // the stream has no buffer: the first of these is under way
		}
		wantKind(t, s, lab, "change", "what was under way")
		if wantKind(t, s, lab, "change", "the rest"); len(lab.Map().Peers) != 57 {
			t.Errorf("the center has %d peers after two frames, want 57", len(lab.Map().Peers))
		}
	})
}

func TestReconnectingNodeGetsWhatItLacks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := openStore(t)
		n, lab, _ := newFleet(t, st, 60)
		opened := func(have wire.Have, want, what string) {
			t.Helper()
			s := lab.Open(t.Context(), http.MethodGet, have)
			defer s.Close()
			wantKind(t, s, lab, want, what)
		}
		disallow := func(clinic string) {
			t.Helper()
			if err := n.Disallow(t.Context(), "test", "pacs", clinic); err != nil {
				t.Fatal(err)
			}
		}
		opened(wire.Have{Diffs: true}, "map", "a node without a map")
		opened(lab.Have(), "none", "a node that has the newest map")
		before := lab.Have()
		disallow("clinic-00001")
		opened(lab.Have(), "change", "a node that was away")
		disallow("clinic-00002")
		noDiffs, untold := lab.Have(), lab.Have()
		noDiffs.Diffs, untold.Hash = false, wire.ContentHash{}
		unknown := lab.Have()
		unknown.Hash[0]++
		opened(noDiffs, "map", "one that takes no changes")
		opened(untold, "map", "one that does not say what it has")
		opened(unknown, "map", "one that has what nobody knows")
		before.Generation = 0
		opened(before, "map", "one that wants the whole map")

		// A new process knows nothing but what the node says.
		n = provisioningtest.Open(t, st, provisioningtest.Options{})
		n.Adopt(lab)
		old := lab.Have()
		old.Generation--
		opened(old, "none", "after a restart, a node that has the newest map")
		disallow("clinic-00003")
		opened(lab.Have(), "map", "after a restart, a node that was away: its map is not known any more")
		disallow("clinic-00004")
		opened(lab.Have(), "change", "a node that was away later")
	})
}

func TestOlderMapsOfANodeAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, lab, _ := newFleet(t, openStore(t), 60)
		s := lab.Open(t.Context(), http.MethodGet, wire.Have{Diffs: true})
		wantKind(t, s, lab, "map", "at first")
		// Three changes are sent into a line that is dead already.
		for _, c := range []string{"clinic-00001", "clinic-00002", "clinic-00003"} {
			if err := n.Disallow(t.Context(), "test", "pacs", c); err != nil {
				t.Fatal(err)
			}
			next(t, s)
		}
		s.Close()
		s = lab.Open(t.Context(), http.MethodGet, lab.Have())
		defer s.Close()
		if wantKind(t, s, lab, "change", "when it comes back"); len(lab.Map().Peers) != 57 {
			t.Errorf("the center has %d peers, want 57", len(lab.Map().Peers))
		}
	})
}

// What is lost is noticed with the next frame, at the latest with a heartbeat, and then the whole map comes.
func TestLostMapIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, lab, _ := newFleet(t, openStore(t), 60)
		carries := func(line []byte) bool { return bytes.Contains(line, []byte(`"signature"`)) }
		var start time.Time
		lost := 0
		weather := func(line []byte) [][]byte {
			if lost == 0 && carries(line) {
				lost, start = len(line), time.Now()
				return nil
			}
			return [][]byte{line}
		}
		done := make(chan error)
		go func() { done <- lab.FollowIn(t.Context(), weather) }()
		synctest.Wait()
		if err := <-done; !errors.Is(err, io.EOF) || lost == 0 || time.Since(start) != wire.HeartbeatEvery {
			t.Fatalf("the stream ended with %v %s after a map was lost", err, time.Since(start))
		}
		if h := lab.Have(); h.Generation != 0 || !h.Hash.IsZero() || lab.Misfits() != 1 {
			t.Errorf("the node asks with %+v", h)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := lab.Follow(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		if i := nodeInfo(t, n, lab.ID); len(lab.Map().Peers) != 60 || i.Applied != i.Desired || !i.BehindSince.IsZero() {
			t.Errorf("the node has %d peers, applied %d of %d", len(lab.Map().Peers), i.Applied, i.Desired)
		}
	})
}

func TestRenewalOfALargeMapIsSmall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := openStore(t)
		_, lab, _ := newFleet(t, st, 60)
		s := lab.Open(t.Context(), http.MethodGet, wire.Have{Diffs: true})
		wantKind(t, s, lab, "map", "at first")
		s.Close()
		// After a restart nobody but the node has the map that it has, and it is the one that is due.
		provisioningtest.Open(t, st, provisioningtest.Options{}).Adopt(lab)
		s = lab.Open(t.Context(), http.MethodGet, lab.Have())
		defer s.Close()
		first := lab.Map()
		for start := time.Now(); time.Since(start) < 25*time.Hour; {
			f := next(t, s)
			if err := lab.Take(f); err != nil || f.NetMap != nil {
				t.Fatalf("the frame carries %s (%v)", kind(f), err)
			}
			if f.Change != nil {
				if !lab.Map().Expires.After(first.Expires) || len(f.Change.Diff) > 1500 {
					t.Errorf("%d bytes made the map good until %s instead of %s", len(f.Change.Diff), lab.Map().Expires, first.Expires)
				}
				return
			}
		}
		t.Error("the map was not renewed within a day")
	})
}

func TestChangeOfAlmostAllIsSentWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, lab, _ := newFleet(t, openStore(t), 60)
		turn := func(from int, allow bool) {
			t.Helper()
			for i := range 30 {
				var err error
				if c := fmt.Sprintf("clinic-%05d", from+i); allow {
					_, err = n.Allow(t.Context(), "test", "pacs", c, 0)
				} else {
					err = n.Disallow(t.Context(), "test", "pacs", c)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		turn(30, false)
		s := lab.Open(t.Context(), http.MethodGet, wire.Have{Diffs: true})
		wantKind(t, s, lab, "map", "at first")
		s.Close()
		turn(30, true)
		turn(0, false)
		s = lab.Open(t.Context(), http.MethodGet, lab.Have())
		defer s.Close()
		if wantKind(t, s, lab, "map", "all clinics are others"); len(lab.Map().Peers) != 30 {
			t.Errorf("the center has %d peers, want 30", len(lab.Map().Peers))
		}
	})
}

func TestBehindSince(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, provisioningtest.Options{})
		n.Center(t, "lab", "192.0.2.1:51820")
		n.Clinic(t, "nord")
		n.DICOM(t, "lab", "pacs", "PACS")
		n.Node(t, "lab")
		box := n.Node(t, "nord")
		s := box.Open(t.Context(), http.MethodPost, box.Have())
		defer s.Close()
		take := func() {
			t.Helper()
			if err := box.Take(next(t, s)); err != nil {
				t.Fatal(err)
			}
		}
		beat := func(applied uint64, problem string) {
			t.Helper()
			if err := s.Beat(wire.Beat{Applied: applied, ApplyError: problem}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		behind := func(what string, want time.Duration, problem string) {
			t.Helper()
			i := nodeInfo(t, n, box.ID)
			if got := time.Since(i.BehindSince); i.BehindSince.IsZero() || got != want || i.ApplyError != problem || i.Applied >= i.Desired {
				t.Errorf("%s: applied %d of %d since %s, because %q; want %s, %q", what, i.Applied, i.Desired, got, i.ApplyError, want, problem)
			}
		}
		inTime := func(what string) {
			t.Helper()
			if i := nodeInfo(t, n, box.ID); !i.BehindSince.IsZero() || i.Applied < i.Desired {
				t.Errorf("%s: applied %d of %d since %s", what, i.Applied, i.Desired, i.BehindSince)
			}
		}
		take()
		time.Sleep(3 * time.Second)
		behind("before its first word", 3*time.Second, "")
		beat(box.Generation(), "")
		inTime("at work")

		n.Grant(t, "pacs", "nord")
		take()
		time.Sleep(10 * time.Second)
		beat(box.Generation()-1, "the port is taken")
		time.Sleep(4 * time.Second)
		behind("with a problem", 14*time.Second, "the port is taken")
		if err := n.Disallow(t.Context(), "test", "pacs", "nord"); err != nil {
			t.Fatal(err)
		}
		take()
		time.Sleep(time.Second)
		behind("with one more change", 15*time.Second, "the port is taken")
		if err := box.Report(t.Context(), wire.Report{Format: 1, Applied: box.Generation()}); err != nil {
			t.Fatal(err)
		}
		inTime("after a report")
	})
}
