package ipam_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/towpath/towpath/ipam"
)

func TestMappingExplainsItself(t *testing.T) {
	for _, tc := range []struct{ lan, mapped, want string }{
		{"192.168.178.0/24", "10.201.7.0/24", "192.168.178.0/24 appears as 10.201.7.0/24: .20 is 10.201.7.20"},
		{"192.168.178.128/25", "10.201.7.0/25", "192.168.178.128/25 appears as 10.201.7.0/25: .148 is 10.201.7.20"},
		{"192.168.0.0/16", "10.201.0.0/16", "192.168.0.0/16 appears as 10.201.0.0/16: .0.20 is 10.201.0.20"},
		{"192.168.4.0/22", "10.201.8.0/22", "192.168.4.0/22 appears as 10.201.8.0/22: .4.20 is 10.201.8.20"},
		{"192.168.1.8/30", "10.1.1.4/30", "192.168.1.8/30 appears as 10.1.1.4/30: .9 is 10.1.1.5"},
		{"192.168.1.8/32", "10.1.1.4/32", "192.168.1.8/32 appears as 10.1.1.4/32: .8 is 10.1.1.4"},
		{"8.0.0.0/6", "12.0.0.0/6", "8.0.0.0/6 appears as 12.0.0.0/6: 8.0.0.20 is 12.0.0.20"},
		{"fd00:1::/64", "fd12:3456:789a:7::/64", "fd00:1::/64 appears as fd12:3456:789a:7::/64: fd00:1::14 is fd12:3456:789a:7::14"},
	} {
		m, err := ipam.NewMapping(netip.MustParsePrefix(tc.lan), netip.MustParsePrefix(tc.mapped))
		if err != nil {
			t.Errorf("%s as %s: %v", tc.lan, tc.mapped, err)
		}
		if got := m.String(); got != tc.want {
			t.Errorf("got  %s\nwant %s", got, tc.want)
		}
	}
	if got := (ipam.Mapping{}).String(); !strings.HasPrefix(got, "no mapping: ") {
		t.Errorf("the zero mapping says %q", got)
	}
}

func TestMappingRefusesWhatIsNotOneToOne(t *testing.T) {
	for _, tc := range []struct{ lan, mapped string }{
		{"192.168.178.0/24", "10.201.7.0/25"},
		{"192.168.178.0/24", "fd00::/24"},
		{"192.168.178.1/24", "10.201.7.0/24"},
		{"::ffff:192.168.178.0/120", "10.201.7.0/24"},
	} {
		m := ipam.Mapping{LAN: netip.MustParsePrefix(tc.lan), Mapped: netip.MustParsePrefix(tc.mapped)}
		if err := m.Validate(); !errors.Is(err, ipam.ErrMalformed) {
			t.Errorf("%s as %s: got %v", tc.lan, tc.mapped, err)
		}
	}
	same := netip.MustParsePrefix("192.168.178.0/24")
	if _, err := ipam.NewMapping(same, same); err == nil {
		t.Error("a LAN may appear as itself")
	} else if _, ok := errors.AsType[*ipam.OverlapError](err); !ok {
		t.Errorf("a LAN as itself: got %v", err)
	}
	if _, ok := (ipam.Mapping{}).Forward(netip.MustParseAddr("10.0.0.1")); ok {
		t.Error("the zero mapping translates")
	}
}

// TestMappingIsABijection draws mappings and addresses of either family: translating there and back changes nothing, keeps the family and
// the host part, preserves the order, and fails exactly outside of the prefix.
func TestMappingIsABijection(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.SampledFrom([]int{4, 16}).Draw(t, "size")
		draw := func(label string) netip.Addr {
			a, _ := netip.AddrFromSlice(rapid.SliceOfN(rapid.Byte(), size, size).Draw(t, label))
			return a
		}
		bits := rapid.IntRange(0, size*8).Draw(t, "bits")
		m, err := ipam.NewMapping(netip.PrefixFrom(draw("lan"), bits).Masked(), netip.PrefixFrom(draw("mapped"), bits).Masked())
		if err != nil {
			t.Skip("equal, or IPv4 in IPv6")
		}
		inside := func(p netip.Prefix, a netip.Addr) netip.Addr {
			out, n := a.AsSlice(), p.Addr().AsSlice()
			for i := range bits {
				bit := byte(0x80) >> (i % 8)
				out[i/8] = out[i/8]&^bit | n[i/8]&bit
			}
			got, _ := netip.AddrFromSlice(out)
			return got
		}
		a, b := inside(m.LAN, draw("a")), inside(m.LAN, draw("b"))
		fa, ok := m.Forward(a)
		if !ok || fa.BitLen() != a.BitLen() || !m.Mapped.Contains(fa) || fa != inside(m.Mapped, a) {
			t.Fatalf("%v: %v becomes %v", m, a, fa)
		}
		if back, ok := m.Back(fa); !ok || back != a {
			t.Fatalf("%v: %v becomes %v and then %v", m, a, fa, back)
		}
		if fb, _ := m.Forward(b); fa.Compare(fb) != a.Compare(b) {
			t.Fatalf("%v: %v and %v become %v and %v", m, a, b, fa, fb)
		}
		far := draw("far")
		if _, ok := m.Forward(far); ok != m.LAN.Contains(far) {
			t.Fatalf("%v: %v is translated: %v", m, far, ok)
		}
		if _, ok := m.Back(far); ok != m.Mapped.Contains(far) {
			t.Fatalf("%v: %v is translated back: %v", m, far, ok)
		}
	})
}
