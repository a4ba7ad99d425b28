package filter

import (
	"net/netip"
	"testing"

	"pgregory.net/rapid"
)

// small draws a prefix of a small corner of either family, both ends of all addresses among them.
func small(t *rapid.T) netip.Prefix {
	base := rapid.SampledFrom([]string{"10.0.0.0", "0.0.0.0", "255.255.255.0", "fd00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ff00"}).Draw(t, "base")
	a := netip.MustParseAddr(base)
	b := a.AsSlice()
	b[len(b)-1] = rapid.Byte().Draw(t, "last")
	a, _ = netip.AddrFromSlice(b)
	p, err := a.Prefix(a.BitLen() - rapid.IntRange(0, 7).Draw(t, "size"))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestSpans compares with asking every prefix.
func TestSpans(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.SliceOfN(rapid.Custom(small), 0, 8).Draw(t, "in")
		out := rapid.SliceOfN(rapid.Custom(small), 0, 4).Draw(t, "without")
		for _, v4 := range []bool{true, false} {
			list := spans(in, out, v4)
			for i, s := range list {
				if s.first.Compare(s.last) > 0 || i > 0 && list[i-1].last.Compare(s.first) >= 0 {
					t.Fatalf("not in order: %v", list)
				}
			}
			for range 20 {
				p := small(t)
				a := p.Addr()
				if a.Is4() != v4 {
					continue
				}
				want := contains(in, a) && !contains(out, a)
				got := false
				for _, s := range list {
					got = got || s.first.Compare(a) <= 0 && a.Compare(s.last) <= 0
				}
				if got != want {
					t.Fatalf("%v: %v, want %v, of %v without %v: %v", a, got, want, in, out, list)
				}
			}
		}
	})
}

func contains(list []netip.Prefix, a netip.Addr) bool {
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

func TestSpanText(t *testing.T) {
	for want, s := range map[string]span{
		"10.0.0.1":          {netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.1")},
		"10.0.0.0/31":       {netip.MustParseAddr("10.0.0.0"), netip.MustParseAddr("10.0.0.1")},
		"10.0.0.1-10.0.0.2": {netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")},
		"fd00::/8":          {netip.MustParseAddr("fd00::"), netip.MustParseAddr("fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")},
	} {
		if got := s.String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
