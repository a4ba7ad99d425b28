package box

import (
	"fmt"
	"net/netip"
	"testing"
)

func TestSides(t *testing.T) {
	for _, c := range []struct {
		name         string
		list         []iface
		named        string
		lan, shared  string
		site, closed string // an address that is the Site's on a shared interface, and one that is not
	}{
		{"nothing", nil, "", "[]", "[]", "", "192.168.1.1"},
		{"one cable to a router", []iface{one("eth0*", "192.168.178.0/24")}, "", "[]", "[eth0]", "10.1.2.3", "198.51.100.7"},
		{"inside and outside", []iface{one("lan0", "10.10.1.0/24"), one("wan0*", "192.168.1.0/24")}, "", "[lan0]", "[]", "", "192.168.1.1"},
		{"a rented machine", []iface{one("eth0*", "198.51.100.0/24")}, "", "[]", "[]", "", "198.51.100.7"},
		{"a rented machine with a private network", []iface{one("eth0*", "198.51.100.0/24"), one("eth1", "10.0.0.0/24")}, "", "[eth1]", "[]", "", "10.0.0.7"},
		{"a LAN with public addresses, by name", []iface{one("eth0*", "198.51.100.0/24")}, "198.51.100.9", "[]", "[eth0]", "198.51.100.7", "203.0.113.1"},
		{
			"the outer one, by name",
			[]iface{one("lan0", "10.10.1.0/24"), one("wan0*", "192.168.1.0/24")},
			"192.168.1.9", "[lan0]", "[wan0]",
			"192.168.1.7", "203.0.113.1",
		},
		{"containers", []iface{one("eth0*", "198.51.100.0/24"), one("docker0", "172.17.0.0/16")}, "", "[docker0]", "[]", "", "172.17.0.2"},
		{
			"public IPv6 beside",
			[]iface{one("eth0*", "192.168.178.0/24", "2001:db8:1::/64")},
			"", "[]", "[eth0]",
			"2001:db8:1::7", "2001:db8:2::7",
		},
		{"not up yet", []iface{one("eth0")}, "", "[]", "[]", "", "10.0.0.1"},
	} {
		var named []netip.Addr
		if c.named != "" {
			named = append(named, netip.MustParseAddr(c.named))
		}
		s := sides(c.list, named)
		if got := fmt.Sprint(s.LAN, s.Shared); got != c.lan+" "+c.shared {
			t.Errorf("%s: %s, want %s %s", c.name, got, c.lan, c.shared)
		}
		in := func(a string) bool {
			for _, p := range s.Site {
				if p.Contains(netip.MustParseAddr(a)) {
					return true
				}
			}
			return false
		}
		if c.site != "" && !in(c.site) {
			t.Errorf("%s: %s is not the site's: %v", c.name, c.site, s.Site)
		}
		if in(c.closed) {
			t.Errorf("%s: %s is the site's: %v", c.name, c.closed, s.Site)
		}
		n := 0
		for _, i := range c.list {
			n += len(i.prefixes)
		}
		if len(s.Attached) != n {
			t.Errorf("%s: attached to %v", c.name, s.Attached)
		}
	}
	var many []iface
	for i := range 1000 {
		many = append(many, one(fmt.Sprintf("docker%d", i), "172.17.0.0/16"))
	}
	if s := sides(many, nil); len(s.LAN) != maxSides {
		t.Errorf("%d interfaces", len(s.LAN))
	}
}
