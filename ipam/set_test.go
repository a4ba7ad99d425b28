package ipam

import (
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestSetOverlapping(t *testing.T) {
	s := NewSet(append(prefixes("10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.1.2.0/24", "192.168.0.0/16", "fd00::/8"), netip.Prefix{})...)
	if s.Len() != 6 {
		t.Errorf("%d members, want 6", s.Len())
	}
	for query, want := range map[string][]string{
		"10.1.2.9/32":    {"10.1.2.0/24", "10.1.2.0/24", "10.1.0.0/16", "10.0.0.0/8"},
		"10.1.0.0/16":    {"10.1.0.0/16", "10.0.0.0/8", "10.1.2.0/24", "10.1.2.0/24"},
		"10.200.0.0/16":  {"10.0.0.0/8"},
		"192.168.1.0/24": {"192.168.0.0/16"},
		"192.169.0.0/16": nil,
		"0.0.0.0/0":      {"10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.1.2.0/24", "192.168.0.0/16"},
		"::/0":           {"fd00::/8"},
		"fe80::/10":      nil,
	} {
		if got := slices.Collect(s.Overlapping(pfx(query))); !slices.Equal(got, prefixes(want...)) {
			t.Errorf("%s overlaps %v, want %v", query, got, want)
		}
	}
	if s.Overlaps(netip.Prefix{}) {
		t.Error("no prefix overlaps something")
	}
}

func drawPrefix(t *rapid.T) netip.Prefix {
	if rapid.Bool().Draw(t, "IPv6") {
		a := [16]byte{0xfd, 7: rapid.Byte().Draw(t, "a"), 8: rapid.Byte().Draw(t, "b")}
		return netip.PrefixFrom(netip.AddrFrom16(a), rapid.IntRange(50, 80).Draw(t, "bits")).Masked()
	}
	a := [4]byte{10, rapid.Byte().Draw(t, "a"), rapid.Byte().Draw(t, "b"), 255}
	return netip.PrefixFrom(netip.AddrFrom4(a), rapid.IntRange(0, 32).Draw(t, "bits")).Masked()
}

func TestSetAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		members := rapid.SliceOfN(rapid.Custom(drawPrefix), 0, 40).Draw(t, "members")
		s := NewSet(members...)
		query := rapid.Custom(drawPrefix).Draw(t, "query")
		want := slices.DeleteFunc(slices.Clone(members), func(p netip.Prefix) bool { return !p.Overlaps(query) })
		got := slices.Collect(s.Overlapping(query))
		if s.Overlaps(query) != (len(want) > 0) {
			t.Fatalf("Overlaps(%v) is wrong, want %v", query, want)
		}
		slices.SortFunc(want, netip.Prefix.Compare)
		slices.SortFunc(got, netip.Prefix.Compare)
		if !slices.Equal(want, got) {
			t.Fatalf("Overlapping(%v) = %v, want %v", query, got, want)
		}
		collides := false
		for i, a := range members {
			for _, b := range members[:i] {
				collides = collides || a.Overlaps(b)
			}
		}
		found := false
		for a, b := range s.Collisions() {
			found = true
			if !a.Overlaps(b) {
				t.Fatalf("%v and %v are said to collide", a, b)
			}
		}
		if found != collides {
			t.Fatalf("collisions found = %v in %v", found, members)
		}
	})
}
