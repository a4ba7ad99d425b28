package filter_test

import (
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/filter"
)

// attempt is one connection from the box. N in an address is its number, so that all are told apart.
type attempt struct {
	to     string
	mark   int
	source string
	passes bool
	// raw is the source port of a single segment without SYN, as of a connection that began elsewhere; 0 is a connection.
	raw uint16
}

// TestWhatLeavesTheBox: the routes lead everything to one interface, and only the table decides.
func TestWhatLeavesTheBox(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		dev      string
		rules    filter.Ruleset
		attempts []attempt
	}{
		"outside": {wan, clinic(), []attempt{
			{to: "198.18.9.N:8080", passes: true}, // what is not ours
			{to: "[2001:db8:9::N]:8080", passes: true},
			{to: "198.18.9.N:104"},
			{to: "[2001:db8:9::N]:104"},
			{to: "198.18.9.N:2575"},
			{to: "198.18.9.N:104", raw: 40001},
			{to: "198.18.9.N:104", raw: 8080, passes: true}, // the second answers somebody who called
			{to: "10.201.7.N:8080"},
			{to: "[fd7a:10::7:N]:8080"},
			{to: "10.201.7.N:104"},
			{to: "[fd7a:10::7:N]:104"},
			{to: "198.18.9.N:8080", source: "10.201.0.1:0"},
			{to: "[2001:db8:9::N]:8080", source: "[fd7a:10::1]:0"},
			{to: "198.18.9.N:8080", mark: tunnel.MarkInner},
			{to: "[2001:db8:9::N]:8080", mark: tunnel.MarkInner},
			{to: "198.18.9.N:4242", mark: tunnel.MarkLAN},
			{to: "[2001:db8:9::N]:4242", mark: tunnel.MarkLAN},
			{to: "198.18.9.N:8080", mark: tunnel.MarkOuter, passes: true},
			{to: "10.201.7.N:8080", mark: tunnel.MarkOuter},
		}},
		"the site": {lan, clinic(), []attempt{
			{to: "10.30.9.N:104", passes: true},
			{to: "[fd30::N]:104", passes: true},
			{to: "10.30.9.N:4242", mark: tunnel.MarkLAN, passes: true},
			{to: "10.201.7.N:104"},
			{to: "[fd7a:10::7:N]:104"},
			{to: "10.30.9.N:104", mark: tunnel.MarkInner},
			{to: "10.201.7.N:104", mark: tunnel.MarkLAN},
		}},
		"the tunnel": {tow, clinic(), []attempt{
			{to: "10.201.7.N:104", source: "10.201.0.1:0", passes: true},
			{to: "[fd7a:10::7:N]:104", source: "[fd7a:10::1]:0", passes: true},
			{to: "10.201.7.N:104", source: "10.201.0.1:0", mark: tunnel.MarkInner, passes: true},
			{to: "10.201.7.N:8080", source: "10.201.0.1:0", mark: tunnel.MarkOuter},
			{to: "198.18.9.N:8080", source: "10.201.0.1:0", mark: tunnel.MarkOuter},
			{to: "198.18.9.N:8080", source: "10.201.0.1:0"},
			{to: "10.201.7.N:8080", source: "198.18.1.1:0"},
			{to: "[2001:db8:9::N]:104", source: "[fd7a:10::1]:0"},
			{to: "10.201.7.N:104", source: "10.201.0.1:0", mark: tunnel.MarkLAN},
		}},
		"one cable": {wan, oneCable(), []attempt{
			{to: "10.30.9.N:104", passes: true},
			{to: "[fd30::N]:104", passes: true},
			{to: "10.30.9.N:4242", mark: tunnel.MarkLAN, passes: true},
			{to: "198.18.9.N:104"},
			{to: "[2001:db8:9::N]:104"},
			{to: "198.18.9.N:4242", mark: tunnel.MarkLAN},
			{to: "198.18.9.N:8080", passes: true},
			{to: "10.201.7.N:104"},
			{to: "[fd7a:10::7:N]:104"},
			{to: "10.201.7.N:8080"},
		}},
		"a network by name": {wan, byName(), []attempt{
			{to: "198.18.9.N:104", passes: true},
			{to: "[2001:db8:9::N]:104", passes: true},
			{to: "198.18.9.N:4242", mark: tunnel.MarkLAN, passes: true},
			{to: "10.30.9.N:104"},
			{to: "[fd30::N]:104"},
			{to: "10.201.7.N:104"},
		}},
		"a network in the plan": {wan, inPlan(), []attempt{
			{to: "10.201.7.N:8080", passes: true},
			{to: "10.201.7.N:104"},
			{to: "10.201.7.N:8080", mark: tunnel.MarkInner},
			{to: "10.201.7.N:8080", mark: tunnel.MarkOuter},
			{to: "[fd7a:10::7:N]:8080"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStreet(t)
			s.via(c.dev)
			for i := range c.attempts {
				c.attempts[i].to = strings.ReplaceAll(c.attempts[i].to, "N", strconv.Itoa(i+1))
			}
			seen := s.sniff(c.dev)
			try := func(a attempt) error {
				if a.raw != 0 {
					return segment(s.box, a, seen)
				}
				return dial(s.box, a.to, a.mark, a.source)
			}
			// Without the table everything gets there: what is denied later is denied by it.
			check(t, "without", c.attempts, try, func(attempt) bool { return true })
			apply(t, s.box, &filter.Kernel{}, c.rules)
			seen.clear()
			check(t, "with", c.attempts, try, func(a attempt) bool { return a.passes })
			for _, a := range c.attempts {
				if got := seen.has(a.to); got != a.passes {
					t.Errorf("%+v: on the wire: %v", a, got)
				}
			}
		})
	}
}

func oneCable() filter.Ruleset {
	r := clinic()
	r.LAN, r.Shared, r.Site = nil, []string{wan}, prefixes("10.0.0.0/8", "fc00::/7")
	return r
}

func byName() filter.Ruleset {
	r := clinic()
	r.LAN, r.Also = nil, prefixes("198.18.9.0/24", "2001:db8:9::/64")
	return r
}

func inPlan() filter.Ruleset {
	r := clinic()
	r.Keep = prefixes("10.201.7.0/24")
	return r
}

// check tries all at once, and again what should pass and does not yet: neighbors have to be found first.
func check[T any](t *testing.T, when string, list []T, try func(T) error, want func(T) bool) {
	t.Helper()
	var all sync.WaitGroup
	for _, x := range list {
		all.Go(func() {
			err := try(x)
			for range 10 {
				if err == nil || !want(x) {
					break
				}
				err = try(x)
			}
			if (err == nil) != want(x) {
				t.Errorf("%s: %+v: %v, want it to pass: %v", when, x, err, want(x))
			}
		})
	}
	all.Wait()
}

// call is one connection to or through the box, from a neighbor.
type call struct {
	from, to, source string
	passes           bool
}

// TestWhatReachesTheBox: calls from outside, from the Site and from inside of the tunnel, to the box and through it, which forwards.
func TestWhatReachesTheBox(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	s.answer(s.box)
	calls := []call{
		{wan, "198.18.1.1:8080", "", true},
		{wan, "[2001:db8:18::1]:8080", "", true}, // not ours
		{wan, "198.18.1.1:104", "", false},
		{wan, "[2001:db8:18::1]:2575", "", false},
		{wan, "198.18.1.1:4242", "", false}, // what only the Site may call
		{wan, "10.20.1.1:104", "", false},
		{wan, "10.201.4.1:104", "", false},
		{wan, "[fd7a:10::4:1]:2575", "", false},
		{wan, "198.18.1.1:8080", "10.201.7.7:0", false},
		{wan, "[2001:db8:18::1]:8080", "[fd7a:10::7:7]:0", false}, // forged
		{lan, "10.20.1.1:104", "", true},
		{lan, "[fd20::1]:2575", "", true},
		{lan, "10.20.1.1:4242", "", true},
		{lan, "198.18.1.1:104", "", true},
		{lan, "10.201.4.1:104", "", false},
		{lan, "[fd7a:10::4:1]:2575", "", false},
		{lan, "10.20.1.1:104", "10.201.7.7:0", false},
		{tow, "10.201.4.1:104", "10.201.0.2:0", true},
		{tow, "[fd7a:10::4:1]:2575", "[fd7a:10::2]:0", true}, // offered
		{tow, "10.201.4.1:2575", "10.201.0.2:0", false},
		{tow, "10.201.0.1:104", "10.201.0.2:0", false},
		{tow, "10.201.0.1:8080", "10.201.0.2:0", false},
		{tow, "[fd7a:10::1]:8080", "[fd7a:10::2]:0", false},
		{tow, "10.20.1.1:104", "10.201.0.2:0", false},
		{tow, "10.20.1.2:104", "10.201.0.2:0", false},
		{tow, "[fd20::2]:104", "[fd7a:10::2]:0", false}, // through the box to the LAN
		{tow, "198.18.1.2:8080", "10.201.0.2:0", false},
		{lan, "10.201.0.2:104", "", false},
		{lan, "[fd7a:10::2]:104", "", false}, // and back
		{lan, "198.18.1.2:104", "", false},
		{lan, "198.18.1.2:8080", "", true}, // a router of other things
	}
	s.must(s.box.Do(func() error {
		l, err := netlink.LinkByName(tow)
		if err != nil {
			return err
		}
		for _, a := range []string{"10.201.4.1/32", "fd7a:10::4:1/128"} {
			x, err := netlink.ParseAddr(a)
			if err != nil {
				return err
			}
			x.Flags = unix.IFA_F_NODAD
			if err := netlink.AddrAdd(l, x); err != nil {
				return err
			}
		}
		for _, p := range []string{"10.201.0.2/32", "10.201.0.77/32", "10.201.7.7/32", "fd7a:10::2/128", "fd7a:10::7:7/128"} {
			dst, err := netlink.ParseIPNet(p)
			if err != nil {
				return err
			}
			if err := netlink.RouteReplace(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: dst, Scope: netlink.SCOPE_LINK}); err != nil {
				return err
			}
		}
		return nil
	}))
	try := func(c call) error { return dial(s.neighbors[c.from], c.to, 0, c.source) }
	genuine := slices.DeleteFunc(slices.Clone(calls), func(c call) bool { // what is forged comes back another way
		return c.source == "10.201.7.7:0" || c.source == "[fd7a:10::7:7]:0"
	})
	check(t, "without", genuine, try, func(call) bool { return true })
	k := &filter.Kernel{}
	r := clinic()
	r.Listen = []uint16{4242}
	apply(t, s.box, k, r)
	check(t, "with", calls, try, func(c call) bool { return c.passes })

	// From one peer through the box to another: both ends are the tunnel's.
	if err := try(call{from: tow, to: "10.201.0.77:104", source: "10.201.0.2:0"}); err == nil {
		t.Error("something answers where nobody is")
	}
	st := status(t, s.box, k)
	if i := slices.IndexFunc(st.Dropped, func(d filter.Drop) bool { return strings.HasPrefix(d.What, "forwarding") }); st.Dropped[i].Packets == 0 {
		t.Error("the box forwards from one peer to another")
	}
	for _, d := range st.Dropped {
		t.Logf("%6d packets %8d bytes: %s", d.Packets, d.Bytes, d.What)
	}
	again := r
	again.Open = nil
	apply(t, s.box, k, again)
	if after := status(t, s.box, k); total(after) < total(st) {
		t.Errorf("the counts got lost with the table: %+v, had %+v", after.Dropped, st.Dropped)
	}
	if err := try(call{from: tow, to: "10.201.4.1:104", source: "10.201.0.2:0"}); err == nil {
		t.Error("a place that is not offered any more is reached")
	}
}

func total(s filter.Status) (n uint64) {
	for _, d := range s.Dropped {
		n += d.Packets
	}
	return n
}
