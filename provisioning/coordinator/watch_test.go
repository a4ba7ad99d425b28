package coordinator_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/provisioningtest"
	"github.com/towpath/towpath/provisioning/wire"
)

// next reads one frame and fails if the stream ends.
func next(t *testing.T, s *provisioningtest.Stream) wire.Frame {
	t.Helper()
	f, err := s.Next()
	if err != nil {
		t.Fatalf("the stream ended: %v", err)
	}
	return f
}

func TestWatchSendsTheMapOnlyWhenItIsNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, provisioningtest.Options{})
		n.Center(t, "lab", "198.51.100.1:51820")
		n.Clinic(t, "praxis-nord")
		n.DICOM(t, "lab", "lab-pacs", "LABPACS")
		box := n.Node(t, "praxis-nord")
		gen := box.Generation()

		for _, tc := range []struct {
			name string
			have uint64
			want bool
		}{
			{"nothing", 0, true},
			{"the newest", gen, false},
			{"an older one", gen - 1, true},
			{"one that cannot be", gen + 7, true},
		} {
			s := box.Watch(t.Context(), tc.have)
			f := next(t, s)
			s.Close()
			if (f.NetMap != nil) != tc.want || f.Generation != gen {
				t.Errorf("having %s: got a map: %v at generation %d, want %v at %d", tc.name, f.NetMap != nil, f.Generation, tc.want, gen)
			}
		}
	})
}

func TestWatchTellsChangesAndHeartbeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, provisioningtest.Options{})
		n.Center(t, "lab", "198.51.100.1:51820")
		n.Clinic(t, "praxis-nord")
		n.Clinic(t, "praxis-sued")
		n.DICOM(t, "lab", "lab-pacs", "LABPACS")
		n.Node(t, "lab")
		box := n.Node(t, "praxis-nord")
		s := box.Watch(t.Context(), box.Generation())
		defer s.Close()
		first := next(t, s)
		if first.NetMap != nil {
			t.Error("a map was sent to a node that has it")
		}

		start := time.Now()
		beat := next(t, s)
		if beat.NetMap != nil || beat.Generation != first.Generation || time.Since(start) != wire.HeartbeatEvery {
			t.Errorf("after %s of quiet: got %+v, want a heartbeat after %s", time.Since(start), beat, wire.HeartbeatEvery)
		}

		start = time.Now()
		n.Grant(t, "lab-pacs", "praxis-sued")
		other := next(t, s)
		if other.NetMap != nil || other.Generation != first.Generation+1 {
			t.Errorf("another clinic's grant: got a map: %v at generation %d, want none at %d", other.NetMap != nil, other.Generation, first.Generation+1)
		}
		if took := time.Since(start); took != wire.HeartbeatEvery {
			t.Errorf("another clinic's grant was told after %s, want it with the heartbeat", took)
		}

		start = time.Now()
		n.Grant(t, "lab-pacs", "praxis-nord")
		own := next(t, s)
		if own.NetMap == nil || time.Since(start) != 0 {
			t.Fatalf("for the node's own grant came a map: %v, after %s", own.NetMap != nil, time.Since(start))
		}
		m, err := own.NetMap.Open(box.Network)
		if err != nil {
			t.Fatalf("open the map: %v", err)
		}
		if len(m.Uses) != 1 || len(m.Peers) != 1 || m.Generation != own.Generation {
			t.Errorf("got %d uses and %d peers at generation %d, want one of each at %d", len(m.Uses), len(m.Peers), m.Generation, own.Generation)
		}
	})
}

func TestWatchSkipsWhatASlowNodeMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, provisioningtest.Options{})
		n.Center(t, "lab", "198.51.100.1:51820")
		n.Clinic(t, "praxis-nord")
		n.Node(t, "lab")
		box := n.Node(t, "praxis-nord")
		s := box.Watch(t.Context(), box.Generation())
		defer s.Close()
		next(t, s)
		// The stream has a pipe without a buffer: the coordinator is blocked in the first of these until the node reads again.
		for _, name := range []string{"one", "two", "three"} {
			n.DICOM(t, "lab", name, "AE-"+name)
			n.Grant(t, name, "praxis-nord")
			synctest.Wait()
		}
		var m wire.NetMap
		frames := 0
		for len(m.Uses) < 3 {
			f := next(t, s)
			frames++
			if f.NetMap == nil {
				continue
			}
			var err error
			if m, err = f.NetMap.Open(box.Network); err != nil {
				t.Fatalf("open the map: %v", err)
			}
			if frames > 6 {
				t.Fatalf("no map with all grants in %d frames", frames)
			}
		}
		if frames > 2 {
			t.Errorf("six changes took %d frames, want the one that was under way and the newest", frames)
		}
	})
}

func TestWatchRenewsTheMapBeforeItExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, provisioningtest.Options{})
		n.Clinic(t, "praxis-nord")
		box := n.Node(t, "praxis-nord")
		ctx, cancel := context.WithTimeout(t.Context(), 5*24*time.Hour)
		defer cancel()
		before := box.Maps()
		if err := box.Follow(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("following for 5 days: %v", err)
		}
		if left := time.Until(box.Map().Expires); left < 28*24*time.Hour {
			t.Errorf("after 5 quiet days the map is good for another %s only", left)
		}
		if got := box.Maps() - before; got < 4 || got > 6 {
			t.Errorf("got %d maps in 5 days, want one a day", got)
		}
	})
}

func TestWatchAfterARestartKeepsQuietAndRenewsWithinADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := openStore(t)
		n := provisioningtest.New(t, st, provisioningtest.Options{})
		n.Clinic(t, "praxis-nord")
		box := n.Node(t, "praxis-nord")
		again := provisioningtest.Open(t, st, provisioningtest.Options{})
		again.Adopt(box)
		s := box.Watch(t.Context(), box.Generation())
		defer s.Close()
		start := time.Now()
		if f := next(t, s); f.NetMap != nil {
			t.Error("a map was sent after a restart of the coordinator, to a node that has it")
		}
		for next(t, s).NetMap == nil {
			if time.Since(start) > 25*time.Hour {
				t.Fatal("the map was not renewed within a day")
			}
		}
	})
}

func TestWatchEndsForARemovedNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, provisioningtest.Options{})
		n.Center(t, "lab", "198.51.100.1:51820")
		n.Clinic(t, "praxis-nord")
		n.DICOM(t, "lab", "lab-pacs", "LABPACS")
		n.Grant(t, "lab-pacs", "praxis-nord")
		lab, box := n.Node(t, "lab"), n.Node(t, "praxis-nord")
		s := box.Watch(t.Context(), box.Generation())
		defer s.Close()
		peer := lab.Watch(t.Context(), 0)
		defer peer.Close()
		next(t, s)
		next(t, peer)

		n.Remove(t, box.ID)
		if _, err := s.Next(); !errors.Is(err, io.EOF) {
			t.Errorf("the removed node's stream: %v, want its end", err)
		}
		f := next(t, peer)
		if f.NetMap == nil {
			t.Fatal("the peer was not told")
		}
		if m, err := f.NetMap.Open(lab.Network); err != nil || len(m.Peers) != 0 {
			t.Errorf("the peer still has %d peers (%v)", len(m.Peers), err)
		}
		wantCode(t, n.Watch(t.Context(), box.ID, wire.Have{}, func(wire.Frame) error { return nil }), provisioning.Denied, "removed")
		again := box.Watch(t.Context(), 0)
		defer again.Close()
		_, err := again.Next()
		wantCode(t, err, provisioning.Denied)
		if online := nodeInfo(t, n, lab.ID).Online; !online {
			t.Error("the peer is not shown as online")
		}
	})
}

func TestWatchEndsWhenTheNodeTakesNothingMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, provisioningtest.Options{})
		n.Clinic(t, "praxis-nord")
		box := n.Node(t, "praxis-nord")
		gone := errors.New("gone")
		if err := n.Watch(t.Context(), box.ID, wire.Have{}, func(wire.Frame) error { return gone }); !errors.Is(err, gone) {
			t.Errorf("got %v, want the error of send", err)
		}
		if nodeInfo(t, n, box.ID).Online {
			t.Error("a node whose stream ended is shown as online")
		}
	})
}
