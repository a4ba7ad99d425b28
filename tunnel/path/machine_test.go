package path_test

import (
	"cmp"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/towpath/towpath/tunnel/path"
	"github.com/towpath/towpath/tunnel/wgkey"
)

var homes = [2]netip.AddrPort{netip.MustParseAddrPort("203.0.113.1:1"), netip.MustParseAddrPort("203.0.114.1:1")}

// letter is a probe under way.
type letter struct {
	at   time.Time
	to   int
	from netip.AddrPort
	p    path.Probe
}

// model is a network of two machines. It fails a test that breaks an invariant.
type model struct {
	t     rapid.TB
	now   time.Time
	m     [2]*path.Machine
	home  [2]netip.AddrPort
	delay time.Duration
	// passes says whether a probe to an end arrives.
	passes func(to int) bool

	mail   []letter
	way    [2]netip.AddrPort
	steers [2][]time.Time // to a direct way
	moves  []time.Time    // of either end
	pings  [2][]time.Time
	pongs  [2]map[uint64]int
	proven [2]map[netip.AddrPort]int // answers that came from there
	asked  [2]map[uint64]netip.AddrPort
	states [2][]path.State // all that were seen
}

func newModel(t rapid.TB, delay time.Duration) *model {
	w := &model{t: t, now: start, home: homes, delay: delay, passes: func(int) bool { return true }}
	keys := [2]wgkey.PublicKey{{1}, {2}}
	for i := range w.m {
		w.m[i] = path.New(keys[i], keys[1-i], path.Filter{}, start)
		w.pongs[i], w.proven[i], w.asked[i] = map[uint64]int{}, map[netip.AddrPort]int{}, map[uint64]netip.AddrPort{}
	}
	return w
}

func (w *model) reveal(i int) {
	w.do(i, w.m[i].Candidates(w.now, []path.Candidate{{Address: w.home[1-i], Source: path.Observed}}))
}

func (w *model) move(i int, to netip.AddrPort) {
	w.home[i] = to
	w.moves = append(w.moves, w.now)
	w.proven[i] = map[netip.AddrPort]int{}
	w.do(i, w.m[i].Moved(w.now))
	if w.way[i].IsValid() {
		w.t.Fatalf("end %d has moved and stays direct", i)
	}
}

func (w *model) do(i int, actions []path.Action) {
	for _, a := range actions {
		switch {
		case a.Steer:
			w.steer(i, a.To)
			continue
		case a.Probe.Kind == path.Ping:
			w.pings[i] = append(w.pings[i], w.now)
			w.asked[i][a.Probe.Sequence] = a.To
		default:
			if w.pongs[i][a.Probe.Echo]++; w.pongs[i][a.Probe.Echo] > 1 {
				w.t.Fatalf("end %d answers one probe twice", i)
			}
		}
		if a.To == w.home[1-i] && w.passes(1-i) {
			w.mail = append(w.mail, letter{w.now.Add(w.delay), 1 - i, w.home[i], a.Probe})
		}
	}
	s := w.m[i].Status()
	if s.Way != w.way[i] || s.Way.IsValid() != (s.State == path.Direct) {
		w.t.Fatalf("end %d says %+v, was steered to %v", i, s, w.way[i])
	}
	if n := len(w.states[i]); n == 0 || w.states[i][n-1] != s.State {
		w.states[i] = append(w.states[i], s.State)
	}
}

func (w *model) steer(i int, to netip.AddrPort) {
	w.way[i] = to
	if !to.IsValid() {
		w.proven[i] = map[netip.AddrPort]int{}
		return
	}
	if w.proven[i][to] < 2 {
		w.t.Fatalf("end %d is steered to %v, from where %d answers came", i, to, w.proven[i][to])
	}
	w.steers[i] = append(w.steers[i], w.now)
}

// run goes on for d.
func (w *model) run(d time.Duration) {
	end := w.now.Add(d)
	for steps := 0; ; steps++ {
		if steps > 100_000 {
			w.t.Fatal("the machines never rest")
		}
		next := end
		for i := range w.m {
			if due := w.m[i].Deadline(); !due.IsZero() && due.Before(next) {
				next = due
			}
		}
		slices.SortStableFunc(w.mail, func(a, b letter) int { return a.at.Compare(b.at) })
		if len(w.mail) > 0 && !w.mail[0].at.After(next) {
			l := w.mail[0]
			w.mail = w.mail[1:]
			w.now = maxTime(w.now, l.at)
			if l.p.Kind == path.Pong && w.asked[l.to][l.p.Echo] == l.from {
				w.proven[l.to][l.from]++
			}
			w.do(l.to, w.m[l.to].Received(w.now, l.from, l.p))
			continue
		}
		w.now = maxTime(w.now, next)
		if w.now == end {
			return
		}
		for i := range w.m {
			w.do(i, w.m[i].Tick(w.now))
		}
	}
}

func maxTime(a, b time.Time) time.Time {
	if cmp.Compare(a.UnixNano(), b.UnixNano()) > 0 {
		return a
	}
	return b
}

// bounds checks what holds in any minute.
func (w *model) bounds() {
	for i := range w.m {
		for j, at := range w.pings[i] {
			k, _ := slices.BinarySearchFunc(w.pings[i], at.Add(time.Minute), time.Time.Compare)
			if k-j > path.Burst+path.PerMinute {
				w.t.Fatalf("end %d: %d probes in a minute", i, k-j)
			}
		}
		for j := 1; j < len(w.steers[i]); j++ {
			// Whoever has moved is to be found again at once.
			if slices.ContainsFunc(w.moves, func(at time.Time) bool { return !at.Before(w.steers[i][j-1]) && !at.After(w.steers[i][j]) }) {
				continue
			}
			if gap := w.steers[i][j].Sub(w.steers[i][j-1]); gap < 500*time.Millisecond {
				w.t.Fatalf("end %d was steered twice within %v", i, gap)
			}
		}
	}
}

func (w *model) direct() bool { return w.way[0].IsValid() && w.way[1].IsValid() }

// Two machines on any network keep the rules, become direct once it lets them, and go back to the relay once it does not.
func TestMachinesTogether(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newModel(t, time.Duration(rapid.IntRange(1, 150).Draw(t, "delay"))*time.Millisecond)
		loss := 0
		var blocked [2]bool
		dice := rapid.Uint32().Draw(t, "seed")
		w.passes = func(to int) bool {
			dice = dice*1664525 + 1013904223
			return !blocked[to] && int(dice>>16)%100 >= loss
		}
		for range rapid.IntRange(1, 12).Draw(t, "events") {
			i := rapid.IntRange(0, 1).Draw(t, "end")
			switch rapid.IntRange(0, 4).Draw(t, "event") {
			case 0:
				w.reveal(i)
			case 1:
				blocked[i] = !blocked[i]
			case 2:
				loss = rapid.IntRange(0, 60).Draw(t, "loss")
			case 3:
				w.move(i, netip.AddrPortFrom(w.home[i].Addr(), uint16(rapid.IntRange(1, 3).Draw(t, "port"))))
			case 4:
			}
			w.run(time.Duration(rapid.IntRange(0, 20_000).Draw(t, "wait")) * time.Millisecond)
		}
		blocked, loss = [2]bool{}, 0
		w.reveal(0)
		w.reveal(1)
		w.run(3 * path.HoldMax)
		if !w.direct() {
			t.Fatalf("not direct on a sound network: %+v %+v", w.m[0].Status(), w.m[1].Status())
		}
		blocked[rapid.IntRange(0, 1).Draw(t, "dead")] = true
		w.run(4 * time.Second)
		if w.way[0].IsValid() || w.way[1].IsValid() {
			t.Fatalf("silence, and not back on the relay: %+v %+v", w.m[0].Status(), w.m[1].Status())
		}
		w.bounds()
	})
}

func TestFirstDirect(t *testing.T) {
	w := newModel(t, 20*time.Millisecond)
	w.reveal(1) // the follower waits to be called
	w.run(path.Stagger - time.Millisecond)
	if len(w.pings[1]) != 0 {
		t.Error("the follower has begun")
	}
	w.reveal(0)
	w.run(400 * time.Millisecond)
	if !w.direct() {
		t.Fatalf("%+v %+v", w.m[0].Status(), w.m[1].Status())
	}
	want := []path.State{path.Opening, path.Validating, path.Direct}
	if !slices.Equal(w.states[0], want) || !slices.Equal(w.states[1], want) {
		t.Errorf("states %v", w.states)
	}
	w.run(time.Minute)
	if s := w.m[0].Status(); s.RTT != 40*time.Millisecond || s.Loss != 0 || s.State.String() != "direct" {
		t.Errorf("status %+v", s)
	}
	if n := len(w.pings[0]); n > 70 {
		t.Errorf("%d probes in the first minute of a sound way", n)
	}
}

// A way that works in one direction only is a state, not a flap (nebula#893).
func TestOneWay(t *testing.T) {
	w := newModel(t, 20*time.Millisecond)
	w.passes = func(to int) bool { return to == 0 }
	w.reveal(0)
	w.reveal(1)
	w.run(time.Hour)
	if len(w.steers[0])+len(w.steers[1]) != 0 {
		t.Error("steered to a way that works in one direction")
	}
	if !slices.Contains(w.states[0], path.Asymmetric) || slices.Contains(w.states[1], path.Asymmetric) {
		t.Errorf("states %v", w.states)
	}
	if n := len(w.pings[0]); n > 200 {
		t.Errorf("%d probes in an hour", n)
	}
	w.bounds()
}

// A direct way that comes and goes is used less and less.
func TestFlapping(t *testing.T) {
	w := newModel(t, 20*time.Millisecond)
	w.passes = func(int) bool { return w.now.Sub(start)%(20*time.Second) < 10*time.Second }
	w.reveal(0)
	w.reveal(1)
	w.run(time.Hour)
	if n := len(w.steers[0]); n < 2 || n > 20 {
		t.Errorf("%d promotions in an hour of 180 outages", n)
	}
	w.bounds()
}

// Ends that search at different times find each other, because long hold-offs end together.
func TestHoldOffsMeet(t *testing.T) {
	w := newModel(t, 20*time.Millisecond)
	var sent [2]time.Time // a port-restricted NAT: in comes who was called within 30 s
	open := false
	w.passes = func(to int) bool {
		sent[1-to] = w.now
		return open && w.now.Sub(sent[to]) < 30*time.Second
	}
	w.reveal(0)
	w.run(17 * time.Minute)
	w.reveal(1)
	w.run(73 * time.Second)
	open = true
	w.run(3 * path.HoldMax)
	if !w.direct() {
		t.Errorf("%+v %+v", w.m[0].Status(), w.m[1].Status())
	}
}

// An end that moves is direct again within 3 s, and the other follows.
func TestMoved(t *testing.T) {
	w := newModel(t, 20*time.Millisecond)
	w.reveal(0)
	w.reveal(1)
	w.run(time.Minute)
	for _, i := range []int{0, 1} {
		w.move(i, netip.AddrPortFrom(homes[i].Addr(), 9))
		w.run(3 * time.Second)
		if !w.direct() || w.way[1-i] != w.home[i] {
			t.Fatalf("end %d has moved: %+v %+v", i, w.m[0].Status(), w.m[1].Status())
		}
	}
}

func TestAnswersNeverAsked(t *testing.T) {
	w := newModel(t, 20*time.Millisecond)
	w.passes = func(int) bool { return false }
	w.reveal(0)
	w.run(time.Second)
	for seq, to := range w.asked[0] {
		elsewhere := netip.AddrPortFrom(to.Addr(), to.Port()+1)
		for range 3 {
			w.do(0, w.m[0].Received(w.now, elsewhere, path.Probe{Kind: path.Pong, Echo: seq}))
			w.do(0, w.m[0].Received(w.now, to, path.Probe{Kind: path.Pong, Echo: seq + 1_000_000}))
		}
	}
	if s := w.m[0].Status(); s.State != path.Opening {
		t.Errorf("an answer from elsewhere, or to nothing, counts: %+v", s)
	}
	// A flood of genuine probes gets no more answers than the budget.
	before := len(w.pongs[0])
	for i := range 1000 {
		w.do(0, w.m[0].Received(w.now, homes[1], path.Probe{Kind: path.Ping, Sequence: uint64(i + 1)}))
	}
	if n := len(w.pongs[0]) - before; n > path.Burst {
		t.Errorf("%d answers at once", n)
	}
}
