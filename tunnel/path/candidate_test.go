package path_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/towpath/towpath/tunnel/path"
)

func TestFilter(t *testing.T) {
	f := path.Filter{Inside: []netip.Prefix{netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.168.7.0/24"), netip.MustParsePrefix("fd00::/8")}}
	for a, want := range map[string]bool{
		"203.0.113.1:51820": true, "[2001:db8::1]:51820": true, "192.168.8.1:51820": true, "[::ffff:203.0.113.1]:1": true,
		"203.0.113.1:0": false, "100.100.0.1:51820": false, "192.168.7.200:51820": false, "[fd12::1]:51820": false, "[::ffff:192.168.7.1]:1": false,
		"127.0.0.1:1": false, "[::1]:1": false, "0.0.0.0:1": false, "[::]:1": false, "224.0.0.1:1": false, "[ff02::1]:1": false,
		"255.255.255.255:1": false, "169.254.1.1:1": false, "[fe80::1%eth0]:1": false,
	} {
		if got := f.Allows(netip.MustParseAddrPort(a)); got != want {
			t.Errorf("%s: %v", a, got)
		}
	}
	if f.Allows(netip.AddrPort{}) {
		t.Error("no address at all is allowed")
	}
}

func TestSelect(t *testing.T) {
	at := func(i int) netip.AddrPort { return netip.MustParseAddrPort(fmt.Sprintf("203.0.113.%d:1", i)) }
	var in []path.Candidate
	for i := range 10 {
		in = append(in, path.Candidate{Address: at(i + 100), Source: path.Learned}, path.Candidate{Address: at(i), Source: path.Observed})
	}
	in = append(in, path.Candidate{Address: netip.MustParseAddrPort("[::ffff:203.0.113.3]:1"), Source: path.Configured}, path.Candidate{})
	got := path.Filter{}.Select(in)
	want := []path.Candidate{{at(3), path.Configured}}
	for _, i := range []int{0, 1, 2, 4, 5, 6} {
		want = append(want, path.Candidate{Address: at(i), Source: path.Observed})
	}
	for i := range path.MaxLearned {
		want = append(want, path.Candidate{Address: at(100 + i), Source: path.Learned})
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}
