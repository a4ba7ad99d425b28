package link

import (
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
	c, err := Config{
		Interface: "tow0", MTU: rapid.SampledFrom([]int{0, 1280, 1420}).Draw(t, label+" MTU"),
		Addresses: lists[0], Routes: lists[1], Blackhole: lists[2],
	}.normalized()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestPlan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		is, want := state{Config: someConfig(t, "is"), up: rapid.Bool().Draw(t, "up")}, someConfig(t, "want")
		is.MTU = max(is.MTU, 1000)
		was := is
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
			case setMTU:
				is.MTU = s.mtu
			case setUp:
				is.up = true
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
	} {
		if _, err := c.normalized(); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
