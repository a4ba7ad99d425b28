package ipam

import (
	"errors"
	"math"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestPrefixFor(t *testing.T) {
	for _, tt := range []struct{ hosts, four, six int }{
		{1, 32, 128},
		{2, 31, 127},
		{3, 29, 126},
		{6, 29, 125},
		{7, 28, 125},
		{8, 28, 124},
		{14, 28, 124},
		{15, 27, 124},
		{16, 27, 123},
		{254, 24, 120},
		{255, 23, 120},
		{256, 23, 119},
		{1<<32 - 2, 0, 96},
		{1<<32 - 1, -1, 96},
		{math.MaxInt, -1, 65},
	} {
		for f, want := range map[Family]int{IPv4: tt.four, IPv6: tt.six} {
			got, err := PrefixFor(tt.hosts, f)
			if want < 0 {
				if !errors.Is(err, ErrMalformed) {
					t.Errorf("PrefixFor(%d, %d) = %d, %v, want ErrMalformed", tt.hosts, f, got, err)
				}
			} else if err != nil || got != want {
				t.Errorf("PrefixFor(%d, %d) = %d, %v, want %d", tt.hosts, f, got, err, want)
			}
		}
	}
	for _, hosts := range []int{0, -1, math.MinInt} {
		if _, err := PrefixFor(hosts, IPv4); !errors.Is(err, ErrMalformed) {
			t.Errorf("PrefixFor(%d): %v", hosts, err)
		}
	}
	if _, err := PrefixFor(1, 5); !errors.Is(err, ErrMalformed) {
		t.Errorf("family 5: %v", err)
	}
}

func TestFirstHost(t *testing.T) {
	addrs := func(ss ...string) (out []netip.Addr) {
		for _, s := range ss {
			out = append(out, netip.MustParseAddr(s))
		}
		return out
	}
	for _, tt := range []struct {
		name, prefix string
		taken        []netip.Addr
		want         string
	}{
		{"not the network address", "10.0.0.0/24", nil, "10.0.0.1"},
		{"the gap", "10.0.0.0/24", addrs("10.0.0.4", "10.0.0.1", "10.0.0.2", "10.0.0.1"), "10.0.0.3"},
		{"others do not matter", "10.0.0.0/24", addrs("10.0.0.0", "9.9.9.9", "10.0.1.1", "fd00::1"), "10.0.0.1"},
		{"not the broadcast address", "10.0.0.0/30", addrs("10.0.0.1", "10.0.0.2"), ""},
		{"both of two", "10.0.0.6/31", nil, "10.0.0.6"},
		{"second of two", "10.0.0.6/31", addrs("10.0.0.6"), "10.0.0.7"},
		{"the only one", "255.255.255.255/32", nil, "255.255.255.255"},
		{"the only one is taken", "255.255.255.255/32", addrs("255.255.255.255"), ""},
		{"end of the family", "255.255.255.252/30", addrs("255.255.255.253"), "255.255.255.254"},
		{"not the anycast address", "fd00::/64", nil, "fd00::1"},
		{"the last of IPv6", "fd00::/126", addrs("fd00::1", "fd00::2"), "fd00::3"},
		{"IPv6 is full", "fd00::/126", addrs("fd00::1", "fd00::2", "fd00::3"), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := FirstHost(pfx(tt.prefix), tt.taken...)
			if _, full := errors.AsType[*FullError](err); tt.want == "" != full {
				t.Fatalf("got %v, %v", got, err)
			}
			if tt.want != "" && got != netip.MustParseAddr(tt.want) {
				t.Errorf("got %v, %v, want %s", got, err, tt.want)
			}
		})
	}
	if _, err := FirstHost(netip.Prefix{}); !errors.Is(err, ErrMalformed) {
		t.Errorf("no prefix: %v", err)
	}
}

// TestHostsFit takes as many hosts as PrefixFor promised, and no more are there in the next smaller prefix.
func TestHostsFit(t *testing.T) {
	fill := func(p netip.Prefix) (taken []netip.Addr) {
		for {
			a, err := FirstHost(p, taken...)
			if err != nil {
				return taken
			}
			if !p.Contains(a) || slices.Contains(taken, a) {
				panic("not a free address of the prefix")
			}
			taken = append(taken, a)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		hosts := rapid.IntRange(1, 70).Draw(t, "hosts")
		f := rapid.SampledFrom([]Family{IPv4, IPv6}).Draw(t, "family")
		base := netip.MustParseAddr("10.20.30.0")
		if f == IPv6 {
			base = netip.MustParseAddr("fd00::")
		}
		bits, err := PrefixFor(hosts, f)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(fill(netip.PrefixFrom(base, bits))); n < hosts {
			t.Fatalf("/%d has room for %d of %d hosts", bits, n, hosts)
		}
		if bits < f.Width() {
			if n := len(fill(netip.PrefixFrom(base, bits+1))); n >= hosts {
				t.Fatalf("/%d was chosen, but /%d has room for %d of %d hosts", bits, bits+1, n, hosts)
			}
		}
	})
}

func TestIsHost(t *testing.T) {
	for _, tt := range []struct {
		prefix string
		hosts  []string
		others []string
	}{
		{"10.0.0.0/29", []string{"10.0.0.1", "10.0.0.6"}, []string{"10.0.0.0", "10.0.0.7", "10.0.0.8", "9.255.255.255", "::1"}},
		{"10.0.0.2/31", []string{"10.0.0.2", "10.0.0.3"}, []string{"10.0.0.1", "10.0.0.4"}},
		{"10.0.0.2/32", []string{"10.0.0.2"}, []string{"10.0.0.3"}},
		{"fd00::/64", []string{"fd00::1", "fd00::ffff:ffff:ffff:ffff"}, []string{"fd00::", "fd00:0:0:1::", "10.0.0.1"}},
		{"fd00::/127", []string{"fd00::", "fd00::1"}, []string{"fd00::2"}},
	} {
		for _, a := range tt.hosts {
			if !IsHost(pfx(tt.prefix), netip.MustParseAddr(a)) {
				t.Errorf("%s is no host of %s", a, tt.prefix)
			}
		}
		for _, a := range tt.others {
			if IsHost(pfx(tt.prefix), netip.MustParseAddr(a)) {
				t.Errorf("%s is a host of %s", a, tt.prefix)
			}
		}
	}
	if IsHost(netip.Prefix{}, netip.Addr{}) {
		t.Error("nothing is a host of nothing")
	}
}
