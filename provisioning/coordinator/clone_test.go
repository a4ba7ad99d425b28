package coordinator_test

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/coordinator"
	"github.com/towpath/towpath/provisioning/provisioningtest"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// call opens a stream of one process of a box, and reads it until it ends. What comes back is closed then.
func call(b *provisioningtest.Node, instance string) (s *provisioningtest.Stream, ended chan struct{}) {
	have := b.Have()
	have.Instance = instance
	s = b.Open(context.Background(), http.MethodGet, have)
	ended = make(chan struct{})
	go func() {
		defer close(ended)
		for {
			if _, err := s.Next(); err != nil {
				return
			}
		}
	}()
	return s, ended
}

// live is a box that watches as one process, and calls again after a pause when its stream ends, until stop is called.
func live(b *provisioningtest.Node, instance string, pause func() time.Duration) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			s, ended := call(b, instance)
			select {
			case <-ended:
			case <-quit:
			}
			s.Close()
			select {
			case <-quit:
				return
			case <-time.After(pause()):
			}
		}
	}()
	return func() { close(quit); <-done }
}

func stateIs(t testing.TB, n *provisioningtest.Network, id provisioning.NodeID) provisioning.NodeState {
	return nodeInfo(t, n, id).State
}

// Two boxes have one key. However they take turns, both are out within three minutes.
func TestOneKeyInTwoPlacesIsQuarantined(t *testing.T) {
	for name, pause := range map[string]func() time.Duration{
		"at once":      func() time.Duration { return time.Second },
		"with backoff": func() time.Duration { return time.Minute },
		"at odds":      func() time.Duration { return 200 * time.Millisecond },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, lab, boxes := newFleet(t, openStore(t), 2)
				var calls atomic.Int64
				n.SetEndpoints(func(context.Context, wgkey.PublicKey) netip.AddrPort {
					return netip.MustParseAddrPort(fmt.Sprintf("192.0.2.%d:4500", 1+calls.Add(1)%2))
				})
				first := live(boxes[0], "first", pause)
				time.Sleep(time.Hour)
				second := live(boxes[0], "second", pause)
				time.Sleep(3 * time.Minute)
				i := nodeInfo(t, n, boxes[0].ID)
				if i.State != provisioning.NodeQuarantined || !strings.Contains(i.Reason, "in two places: 192.0.2.") {
					t.Errorf("after three minutes the node is %s: %s", i.State, i.Reason)
				}
				found, err := n.Findings(t.Context())
				if err != nil || len(found) == 0 || found[0].Code != coordinator.FindingClone || found[0].Severity != "error" || found[0].Node != boxes[0].ID {
					t.Errorf("the findings are %+v (%v)", found, err)
				}
				events, err := n.Events(t.Context(), 0, 0)
				if last := events[len(events)-1]; err != nil || last.Action != "node.quarantine" || last.Subject != string(boxes[0].ID) {
					t.Errorf("the last event is %+v (%v)", last, err)
				}
				if _, m, err := n.NetMapFor(t.Context(), lab.ID); err != nil || len(m.Peers) != 1 || m.Peers[0].Node != string(boxes[1].ID) {
					t.Errorf("the center knows %+v (%v)", m.Peers, err)
				}
				first()
				second()
				if err := n.ReadmitNode(t.Context(), "test", boxes[0].ID); err != nil || stateIs(t, n, boxes[0].ID) != provisioning.NodeActive {
					t.Errorf("readmitted: %v", err)
				}
				alone := live(boxes[0], "second", pause)
				time.Sleep(time.Hour)
				if s := stateIs(t, n, boxes[0].ID); s != provisioning.NodeActive {
					t.Errorf("alone again it is %s", s)
				}
				alone()
			})
		})
	}
}

// A thief who tells no instance is no better off.
func TestThiefWithoutInstance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, _, boxes := newFleet(t, openStore(t), 1)
		pause := func() time.Duration { return 5 * time.Second }
		box, thief := live(boxes[0], "box", pause), live(boxes[0], "", pause)
		time.Sleep(3 * time.Minute)
		if s := stateIs(t, n, boxes[0].ID); s != provisioning.NodeQuarantined {
			t.Errorf("the node is %s", s)
		}
		box()
		thief()
	})
}

func TestNewestStreamWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, _, boxes := newFleet(t, openStore(t), 1)
		old, ended := call(boxes[0], "a")
		time.Sleep(time.Minute)
		young, lives := call(boxes[0], "a")
		time.Sleep(time.Second)
		select {
		case <-ended:
		default:
			t.Error("the older stream goes on")
		}
		select {
		case <-lives:
			t.Error("the newer stream has ended")
		default:
		}
		if i := nodeInfo(t, n, boxes[0].ID); !i.Online {
			t.Error("the node is not online")
		}
		old.Close()
		if i := nodeInfo(t, n, boxes[0].ID); !i.Online {
			t.Error("the end of the older stream took the node offline")
		}
		young.Close()
		if i := nodeInfo(t, n, boxes[0].ID); i.Online {
			t.Error("the node is online for ever")
		}
	})
}

// lifeStep is something that happens to one box, and how many seconds pass after it.
type lifeStep struct {
	what    string
	n, then int
}

// One box restarts, reconnects, moves, leaves dead streams behind, and its requests come late and twice: never an alarm.
func TestOneBoxNeverAlarms(t *testing.T) {
	// Within a bubble of fake time nothing can be drawn: the lives are, before.
	var lives [][]lifeStep
	rapid.Check(t, func(t *rapid.T) {
		lives = append(lives, rapid.SliceOfN(rapid.Custom(func(t *rapid.T) lifeStep {
			return lifeStep{
				what: rapid.SampledFrom([]string{"reconnect", "restarts", "late", "lose"}).Draw(t, "what"),
				n:    rapid.IntRange(1, 20).Draw(t, "n"),
				then: rapid.SampledFrom([]int{0, 1, 10, 29, 30, 61, 600}).Draw(t, "then"),
			}
		}), 1, 30).Draw(t, "life"))
	})
	synctest.Test(t, func(t *testing.T) {
		n, _, boxes := newFleet(t, openStore(t), 1)
		n.SetEndpoints(func(context.Context, wgkey.PublicKey) netip.AddrPort {
			return netip.MustParseAddrPort("192.0.2.1:4500")
		})
		for i, life := range lives {
			lead(boxes[0], fmt.Sprint(i), life)
			if i := nodeInfo(t, n, boxes[0].ID); i.State != provisioning.NodeActive {
				t.Fatalf("after %+v the node is %s: %s", life, i.State, i.Reason)
			}
		}
	})
}

// lead lives a life: one process at a time. What a process has sent before its end arrives up to half a minute later.
func lead(b *provisioningtest.Node, name string, life []lifeStep) {
	var streams []*provisioningtest.Stream
	process, ended := 0, map[int]time.Time{}
	open := func(p int) {
		s, _ := call(b, fmt.Sprint(name, "-", p))
		streams = append(streams, s)
		synctest.Wait()
	}
	open(process)
	for _, step := range life {
		switch step.what {
		case "reconnect":
			for range step.n % 3 {
				open(process)
			}
		case "restarts":
			for range step.n {
				ended[process] = time.Now()
				process++
				open(process)
			}
		case "late":
			if p := process - step.n%4; p >= 0 && (p == process || time.Since(ended[p]) <= 30*time.Second) {
				open(p)
			}
		case "lose": // it hears nothing, and the coordinator does not hear that
		}
		time.Sleep(time.Duration(step.then) * time.Second)
	}
	for _, s := range streams {
		s.Close()
	}
}

func TestQuarantineByHand(t *testing.T) {
	n, lab, boxes := newFleet(t, openStore(t), 2)
	ctx, id := t.Context(), boxes[0].ID
	wantCode(t, n.QuarantineNode(ctx, "test", id, " "), provisioning.Invalid, "reason")
	wantCode(t, n.QuarantineNode(ctx, "test", "node_none", "x"), provisioning.NotFound)
	wantCode(t, n.ReadmitNode(ctx, "test", id), provisioning.Conflict, "not quarantined")
	if err := n.QuarantineNode(ctx, "test", id, "stolen from the car"); err != nil {
		t.Fatal(err)
	}
	wantCode(t, n.QuarantineNode(ctx, "test", id, "again"), provisioning.Conflict, "stolen from the car")
	view, err := n.HubView(ctx)
	if err != nil || len(view.Nodes) != 2 {
		t.Errorf("the hub knows %d nodes (%v)", len(view.Nodes), err)
	}
	if _, m, err := n.NetMapFor(ctx, lab.ID); err != nil || len(m.Peers) != 1 {
		t.Errorf("the center knows %+v (%v)", m.Peers, err)
	}
	s := boxes[0].Watch(ctx, 0)
	_, err = s.Next()
	s.Close()
	wantCode(t, err, provisioning.Denied, "quarantined")
	found, err := n.Findings(ctx)
	if err != nil || len(found) != 1 || found[0].Code != coordinator.FindingQuarantined || !strings.Contains(found[0].Message, "stolen from the car") {
		t.Errorf("the findings are %+v (%v)", found, err)
	}
	if err := n.ReadmitNode(ctx, "test", id); err != nil {
		t.Fatal(err)
	}
	if view, err = n.HubView(ctx); err != nil || len(view.Nodes) != 3 {
		t.Errorf("the hub knows %d nodes (%v)", len(view.Nodes), err)
	}
}
