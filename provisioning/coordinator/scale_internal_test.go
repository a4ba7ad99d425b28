package coordinator

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/netmap"
	"github.com/towpath/towpath/provisioning/wire"
)

// TestAChangeCostsItsOwnVicinity counts the memory that a change takes until the maps of clinics are proven, which grows with all that is
// looked at or copied: with twenty times the clinics it is nearly the same.
func TestAChangeCostsItsOwnVicinity(t *testing.T) {
	few, many := 100, 2000
	if testing.Short() {
		many = 400
	}
	for where, network := range map[string]func(*testing.T, int) *busy{"": newBusy, " with a relay": newRelayed} {
		small, large := network(t, few), network(t, many)
		for what, step := range map[string]func(*busy, int) *netStep{
			"a grant": (*busy).grant, "a key": (*busy).key, "an endpoint": (*busy).endpoint, "a state": (*busy).state,
		} {
			t.Run(what+where, func(t *testing.T) {
				a, b := small.cost(t, step), large.cost(t, step)
				if b > a*3/2 {
					t.Errorf("%d bytes with %d clinics, %d with %d", a, few, b, many)
				}
			})
		}
	}
}

// busy is a network that changes.
type busy struct {
	c   *Coordinator
	s   netmap.Snapshot
	gen uint64
	// many have large maps that may change with any other.
	many []provisioning.NodeID
}

func newBusy(t *testing.T, clinics int) *busy {
	return begun(country(t, clinics), nodeID(0))
}

// newRelayed has a center that cannot be called, and a relay.
func newRelayed(t *testing.T, clinics int) *busy {
	s := country(t, clinics)
	s.HubRelay = true
	s.Sites[0].Endpoint = ""
	addSite(t, &s, clinics+1, wire.Center)
	s.Nodes[clinics+1].Kind = wire.Relay
	return begun(s, nodeID(0), nodeID(clinics+1))
}

func begun(s netmap.Snapshot, many ...provisioning.NodeID) *busy {
	x := netmap.NewIndex(s)
	b := &busy{c: newQuiet(), s: s, gen: s.Generation, many: many}
	b.c.draw(b.c.prove(x, of(s), nil))
	b.c.settle(b.c.picture)
	return b
}

// the is what changes: one of the clinics.
const the = 7

func (b *busy) grant(round int) *netStep {
	g := &provisioning.Grant{Service: "svc_pacs", Site: siteID(the), LANPort: 11112}
	id := grantID{Service: g.Service, Site: g.Site}
	if round%2 == 0 {
		g = nil
	}
	return &netStep{grants: map[grantID]*provisioning.Grant{id: g}}
}

func (b *busy) key(round int) *netStep {
	n := b.s.Nodes[the]
	n.PublicKey[31] ^= byte(round % 2)
	return &netStep{nodes: map[provisioning.NodeID]*provisioning.Node{n.ID: &n}}
}

func (b *busy) state(round int) *netStep {
	n := b.s.Nodes[the]
	if round%2 == 0 {
		n.State = provisioning.NodeQuarantined
	}
	return &netStep{nodes: map[provisioning.NodeID]*provisioning.Node{n.ID: &n}}
}

func (b *busy) endpoint(round int) *netStep {
	v := b.s.Sites[the]
	v.Endpoint = []string{"", "192.0.2.7:51820"}[round%2]
	return &netStep{sites: map[provisioning.SiteID]*provisioning.Site{v.ID: &v}}
}

// cost is how many bytes one step takes, as a median.
func (b *busy) cost(t *testing.T, step func(*busy, int) *netStep) int {
	t.Helper()
	var costs []int
	for round := range 20 {
		s := step(b, round)
		b.gen++
		s.to = b.gen
		before := b.c.picture
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		was := m.TotalAlloc
		p := b.c.prove(before.Change(s.change()), nil, s)
		runtime.ReadMemStats(&m)
		costs = append(costs, int(m.TotalAlloc-was))
		b.c.draw(p)
		// Who is not touched is not woken: only the clinic, its center and the relay are.
		nodes, all := p.touched(before.Generation())
		want := slices.Sorted(slices.Values(append([]provisioning.NodeID{nodeID(the)}, b.many...)))
		if got := slices.Sorted(nodes); all || !slices.Equal(got, want) || len(p.late) != len(b.many) {
			t.Fatalf("touched are %v, all %v, late are %v", got, all, p.late)
		}
		if len(p.proof.CounterExamples) > 0 {
			t.Fatalf("refuted: %v", p.proof.CounterExamples)
		}
		m2, _, err := b.c.compile(p, nodeID(1))
		if err != nil || m2.Generation != b.gen {
			t.Fatalf("another clinic has no map: %v", err)
		}
	}
	if x := b.c.settle(b.c.picture); x.proof.Certificate == nil {
		t.Fatalf("it is not proven: %v", x.proof.CounterExamples)
	}
	slices.Sort(costs)
	return costs[len(costs)/2]
}

// TestOnlyTheTouchedAreWoken holds that a picture wakes the watchers that it concerns, those of a picture that nobody was told of besides, and
// all when that is not known.
func TestOnlyTheTouchedAreWoken(t *testing.T) {
	at := func(gen uint64) *netmap.Index { return netmap.NewIndex(netmap.Snapshot{Generation: gen}) }
	var k crier
	k.of = map[provisioning.NodeID][]*watcher{}
	for i := range 5 {
		id := nodeID(i)
		k.of[id] = []*watcher{{id: id, wake: make(chan struct{}, 1)}, {id: id, wake: make(chan struct{}, 1)}}
	}
	woken := func() map[provisioning.NodeID]bool {
		out := map[provisioning.NodeID]bool{}
		for id, list := range k.of {
			for _, w := range list {
				select {
				case <-w.wake:
					out[id] = true
				default:
				}
				k.done(w)
			}
		}
		return out
	}
	ids := func(list ...int) map[provisioning.NodeID]bool {
		out := map[provisioning.NodeID]bool{}
		for _, i := range list {
			out[nodeID(i)] = true
		}
		return out
	}
	text := func(i int) []string { return []string{fmt.Sprintf("node_%d", i)} }
	var none *picture
	first := none.follow(at(1), Proof{}, nil, nil)
	second := first.follow(at(2), Proof{}, text(1), nil)
	third := second.follow(at(3), Proof{}, text(2), ids(2))
	fourth := third.follow(at(4), Proof{}, text(3), nil)
	for _, tc := range []struct {
		what string
		p    *picture
		want map[provisioning.NodeID]bool
		busy int
	}{
		{"the first", first, ids(0, 1, 2, 3, 4), 10},
		{"the same", first, ids(), 0},
		{"one", second, ids(1), 2},
		{"two at once, one late", fourth, ids(2, 3), 4},
		{"none follows", none.follow(at(9), Proof{}, nil, nil), ids(0, 1, 2, 3, 4), 10},
	} {
		k.tell(t.Context(), tc.p)
		if k.calls != tc.busy {
			t.Errorf("%s: %d are waited for, want %d", tc.what, k.calls, tc.busy)
		}
		if got := woken(); !maps.Equal(got, tc.want) {
			t.Errorf("%s: woken are %v, want %v", tc.what, got, tc.want)
		}
		if k.calls != 0 {
			t.Fatalf("%s: %d are still waited for", tc.what, k.calls)
		}
	}
}

// TestNothingStaysLate holds that what is late is proven soon, even if the center is away.
func TestNothingStaysLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBusy(t, manyLinks+1)
		s := b.grant(0)
		s.to = b.gen + 1
		b.c.draw(b.c.prove(b.c.picture.Change(s.change()), nil, s))
		if len(b.c.shown.Load().late) != 1 {
			t.Fatal("nothing is late")
		}
		b.c.settleLater()
		b.c.settleLater()
		time.Sleep(lateWithin)
		synctest.Wait()
		if x := b.c.shown.Load(); len(x.late) > 0 || x.proof.Certificate == nil || x.Generation() != s.to || b.c.crier.later != nil {
			t.Errorf("late are %v, the proof is %+v", x.late, x.proof)
		}
	})
}

// TestTheHubIsSpared holds that the hub looks at its nodes when one changed, and only then.
func TestTheHubIsSpared(t *testing.T) {
	b := newBusy(t, 3)
	gen := b.gen
	next := func(s *netStep) uint64 {
		b.gen++
		s.to = b.gen
		x := b.c.picture.Change(s.change())
		b.c.draw(b.c.prove(x, x.Snapshot, s))
		b.c.settle(b.c.picture)
		return b.c.picture.hub
	}
	the := siteID(2)
	g := grantID{Service: "svc_pacs", Site: the}
	if since := next(&netStep{grants: map[grantID]*provisioning.Grant{g: nil}}); since != gen {
		t.Errorf("a grant changes the hub: %d", since)
	}
	n := b.s.Nodes[2]
	n.State = provisioning.NodeQuarantined
	if since := next(&netStep{nodes: map[provisioning.NodeID]*provisioning.Node{n.ID: &n}}); since != b.gen {
		t.Errorf("a node that is shut out does not change the hub: %d", since)
	}
	gen = b.gen
	late := &provisioning.Grant{Service: "svc_pacs", Site: the, LANPort: 104, Created: time.Unix(1, 0)}
	if since := next(&netStep{grants: map[grantID]*provisioning.Grant{g: late}}); since != gen {
		t.Errorf("the next grant changes it: %d", since)
	}
	// Who breaks a node changes the hub, whatever it was.
	broken := &provisioning.Site{ID: the, Name: "s2", Kind: wire.SiteKind("x")}
	if since := next(&netStep{sites: map[provisioning.SiteID]*provisioning.Site{the: broken}}); since != b.gen {
		t.Errorf("a broken site does not change the hub: %d", since)
	}
}
