package link

import (
	"maps"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func someConfig(t *rapid.T, label string) Config {
	var lists [3][]netip.Prefix
	for i, all := range [][]string{
		{"100.64.0.1/32", "100.64.0.2/32", "fd00::1/128"},
		{"100.64.1.0/24", "100.64.2.0/24", "fd00:1::/64", "10.0.0.0/8"},
		{"100.64.0.0/10", "fd00::/16", "10.0.0.0/8"},
	} {
		for _, s := range rapid.Permutation(all).Draw(t, label)[:rapid.IntRange(0, len(all)).Draw(t, label)] {
			lists[i] = append(lists[i], netip.MustParsePrefix(s))
		}
	}
	var sources []netip.Addr
	for _, p := range lists[0] {
		same := slices.ContainsFunc(sources, func(a netip.Addr) bool { return a.Is4() == p.Addr().Is4() })
		if !same && rapid.Bool().Draw(t, label+" source") {
			sources = append(sources, p.Addr())
		}
	}
	c, err := Config{
		Interface: "tow0", MTU: rapid.SampledFrom([]int{0, 1280, 1420}).Draw(t, label+" MTU"),
		Addresses: lists[0], Routes: lists[1], Blackhole: lists[2], Sources: sources,
	}.normalized()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestPlan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		is, want := state{Config: someConfig(t, "is"), up: rapid.Bool().Draw(t, "up"), from: map[netip.Prefix]netip.Addr{}}, someConfig(t, "want")
		for _, p := range is.Routes {
			if a := is.source(p); a.IsValid() && rapid.IntRange(0, 3).Draw(t, "left-over") > 0 {
				is.from[p] = a
			}
		}
		is.MTU = max(is.MTU, 1000)
		was := is
		was.from = maps.Clone(is.from)
		change := func(list *[]netip.Prefix, p netip.Prefix, add bool) {
			i, there := slices.BinarySearchFunc(*list, p, netip.Prefix.Compare)
			if there == add {
				t.Fatalf("%v is there: %v, add: %v", p, there, add)
			}
			*list = slices.Clone(*list)
			if add {
				*list = slices.Insert(*list, i, p)
			} else {
				*list = slices.Delete(*list, i, i+1)
			}
		}
		for _, s := range plan(was, want) {
			switch s.verb {
			case addBlackhole, removeBlackhole:
				change(&is.Blackhole, s.prefix, s.verb == addBlackhole)
			case addAddress, removeAddress:
				change(&is.Addresses, s.prefix, s.verb == addAddress)
			case addRoute, removeRoute:
				change(&is.Routes, s.prefix, s.verb == addRoute)
				delete(is.from, s.prefix)
			case setSource:
				if !slices.Contains(is.Routes, s.prefix) {
					t.Fatalf("%v: there is no such route", s)
				}
				delete(is.from, s.prefix)
			case setMTU:
				is.MTU = s.mtu
			case setUp:
				is.up = true
			}
			if s.source.IsValid() {
				is.from[s.prefix] = s.source
			}
			// The kernel refuses a source that is no address, and takes routes away with their source.
			for p, a := range is.from {
				if !slices.Contains(is.Addresses, netip.PrefixFrom(a, a.BitLen())) {
					t.Fatalf("%v: the route %v is from %v, which is no address now", s, p, a)
				}
			}
			// What is unreachable before and after stays so in between, and nothing is routed before all of it is.
			for _, p := range was.Blackhole {
				if slices.Contains(want.Blackhole, p) && !slices.Contains(is.Blackhole, p) {
					t.Fatalf("%v: %v can be reached in between", s, p)
				}
			}
			if s.verb == addRoute {
				for _, p := range want.Blackhole {
					if !slices.Contains(is.Blackhole, p) {
						t.Fatalf("%v comes before %v is unreachable", s, p)
					}
				}
			}
		}
		if want.MTU == 0 {
			want.MTU = is.MTU
		}
		if !is.up || is.MTU != want.MTU || !slices.Equal(is.Addresses, want.Addresses) || !slices.Equal(is.Routes, want.Routes) ||
			!slices.Equal(is.Blackhole, want.Blackhole) {
			t.Fatalf("got %+v, want %+v", is, want)
		}
		for _, p := range want.Routes {
			if is.from[p] != want.source(p) {
				t.Fatalf("route %v from %v, want %v", p, is.from[p], want.source(p))
			}
		}
		if again := plan(is, want); len(again) != 0 {
			t.Fatalf("a second time: %v", again)
		}
	})
}

func TestNormalizedRefuses(t *testing.T) {
	for name, c := range map[string]Config{
		"no name":       {},
		"default route": {Interface: "x", Routes: []netip.Prefix{netip.MustParsePrefix("::/0")}},
		"unmasked":      {Interface: "x", Routes: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/8")}},
		"invalid":       {Interface: "x", Addresses: []netip.Prefix{{}}},
		"a foreign source": {
			Interface: "x", Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32")}, Sources: []netip.Addr{netip.MustParseAddr("10.0.0.2")},
		},
		"two sources": {
			Interface: "x", Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32"), netip.MustParsePrefix("10.0.0.2/32")},
			Sources: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")},
		},
	} {
		if _, err := c.normalized(); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
