package box

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
)

// one is an interface; a name that ends in "*" has a default route.
func one(name string, prefixes ...string) iface {
	i := iface{name: name}
	if n := len(name) - 1; name[n] == '*' {
		i.name, i.gateway = name[:n], true
	}
	for _, p := range prefixes {
		i.prefixes = append(i.prefixes, netip.MustParsePrefix(p))
	}
	return i
}

func TestClassify(t *testing.T) {
	for _, c := range []struct {
		name                   string
		list                   []iface
		lans, wans, containers string
	}{
		{"nothing", nil, "[]", "[]", "[]"},
		{"one interface behind a router", []iface{one("eth0*", "192.168.178.0/24")}, "[192.168.178.0/24]", "[]", "[]"},
		{
			"the same with public and private IPv6",
			[]iface{one("eth0*", "192.168.178.0/24", "2001:db8:1::/64", "fd00:1::/64")},
			"[192.168.178.0/24 fd00:1::/64]", "[2001:db8:1::/64]", "[]",
		},
		{
			"inside and outside",
			[]iface{one("lan0", "10.10.1.0/24"), one("wan0*", "192.168.1.0/24", "fd00:9::/64")},
			"[10.10.1.0/24]", "[192.168.1.0/24 fd00:9::/64]", "[]",
		},
		{"a public address", []iface{one("eth0*", "198.51.100.0/24")}, "[]", "[198.51.100.0/24]", "[]"},
		{"a provider's address", []iface{one("wwan0*", "100.66.4.0/30"), one("eth0", "192.168.1.0/24")}, "[192.168.1.0/24]", "[100.66.4.0/30]", "[]"},
		{"a provider's address without a default route", []iface{one("ts0", "100.101.1.1/32")}, "[]", "[100.101.1.1/32]", "[]"},
		{"cable and wireless to one router", []iface{one("eth0*", "192.168.1.0/24"), one("wlan0*", "192.168.1.0/24")}, "[192.168.1.0/24]", "[]", "[]"},
		{
			"a bridge of containers is nobody's LAN",
			[]iface{one("eth0*", "192.168.1.0/24"), one("docker0", "172.17.0.0/16")},
			"[192.168.1.0/24]", "[]", "[172.17.0.0/16]",
		},
		{"a container host without a LAN of its own", []iface{one("docker0*", "172.17.0.0/16")}, "[]", "[]", "[172.17.0.0/16]"},
		{
			"all kinds of containers",
			[]iface{
				one("docker_gwbridge", "172.18.0.0/16"), one("br-0123456789ab", "172.19.0.0/16"), one("podman1", "10.88.0.0/16"),
				one("cni0", "10.89.0.0/16"), one("virbr0", "192.168.122.0/24"), one("lxcbr0", "10.0.3.0/24"), one("lxdbr0", "10.90.0.0/24"),
				one("incusbr0", "10.91.0.0/24"), one("flannel.1", "10.92.0.0/32"), one("cali12345", "10.93.0.0/32"),
				one("veth1a2b", "10.94.0.0/24"), one("kube-ipvs0", "10.95.0.0/32"),
			},
			"[]", "[]",
			"[10.0.3.0/24 10.88.0.0/16 10.89.0.0/16 10.90.0.0/24 10.91.0.0/24 10.92.0.0/32 10.93.0.0/32 10.94.0.0/24 10.95.0.0/32 " +
				"172.18.0.0/16 172.19.0.0/16 192.168.122.0/24]",
		},
		{
			"bridges and names that only look like it",
			[]iface{one("br-lan", "192.168.1.0/24"), one("br-0123456789abc", "192.168.2.0/24"), one("br0", "192.168.3.0/24"), one("mydocker0", "192.168.4.0/24")},
			"[192.168.1.0/24 192.168.2.0/24 192.168.3.0/24 192.168.4.0/24]", "[]", "[]",
		},
		{
			"the same network twice",
			[]iface{one("eth0*", "192.168.1.0/24"), one("eth1*", "192.168.1.0/24", "10.0.0.0/8")},
			"[10.0.0.0/8 192.168.1.0/24]", "[]", "[]",
		},
	} {
		f := classify(c.list)
		got := [3]string{fmt.Sprint(f.LANs), fmt.Sprint(f.WANs), fmt.Sprint(f.Containers)}
		if want := [3]string{c.lans, c.wans, c.containers}; got != want {
			t.Errorf("%s:\ngot  %v\nwant %v", c.name, got, want)
		}
		slices.Reverse(c.list)
		if f := classify(c.list); [3]string{fmt.Sprint(f.LANs), fmt.Sprint(f.WANs), fmt.Sprint(f.Containers)} != got {
			t.Errorf("%s: the order of the interfaces matters", c.name)
		}
	}
}

func TestClassifyIsBounded(t *testing.T) {
	var list []iface
	for i := range 100 {
		list = append(list, one(fmt.Sprintf("eth%d", i), fmt.Sprintf("10.1.%d.0/24", i), fmt.Sprintf("198.51.%d.0/24", i)), one(fmt.Sprintf("veth%d", i), fmt.Sprintf("10.2.%d.0/24", i)))
	}
	if f := classify(list); len(f.LANs) != maxPrefixes || len(f.WANs) != maxPrefixes || len(f.Containers) != maxPrefixes {
		t.Errorf("%d LANs, %d WANs, %d of containers, want %d of each", len(f.LANs), len(f.WANs), len(f.Containers), maxPrefixes)
	}
}

func TestWorthTelling(t *testing.T) {
	for p, want := range map[string]bool{
		"192.168.1.10/24": true, "127.0.0.1/8": false, "::1/128": false, "169.254.3.4/16": false, "fe80::1/64": false, "0.0.0.0/8": false,
		"fd00::1/64": true, "203.0.113.9/24": true,
	} {
		if worthTelling(netip.MustParsePrefix(p)) != want {
			t.Errorf("%s: want %v", p, want)
		}
	}
}

func TestDefaultRoutes(t *testing.T) {
	// As a machine with two uplinks, a LAN and an unreachable default shows them.
	const v4 = `Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
eth0	00000000	0101A8C0	0003	0	0	100	00000000	0	0	0
wwan0	00000000	00000000	0001	0	0	700	00000000	0	0	0
eth1	00000000	00000000	0000	0	0	0	00000000	0	0	0
*	00000000	00000000	0201	0	0	30000	00000000	0	0	0
eth2	00000000	0101A8C0	0003	0	0	0	00000080	0	0	0
eth0	0001A8C0	00000000	0001	0	0	100	00FFFFFF	0	0	0
`
	if got := fmt.Sprint(defaults4(v4)); got != "[eth0 wwan0]" {
		t.Errorf("IPv4: %s", got)
	}
	const v6 = `fd000000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0
00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 00000001 00000000 00450003     eth0
00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo
00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 00000400 00000001 00000000 00000201     eth1
`
	if got := fmt.Sprint(defaults6(v6)); got != "[eth0]" {
		t.Errorf("IPv6: %s", got)
	}
	for _, odd := range []string{"", "\n", "Iface", "a b c d e f g h i j k", "eth0 0 0 zz 0 0 0 0"} {
		if defaults4(odd) != nil || defaults6(odd) != nil {
			t.Errorf("%q has a default route", odd)
		}
	}
}

func TestFactsOfThisMachine(t *testing.T) {
	f := Facts("v1")
	if f.Version != "v1" {
		t.Errorf("version %q", f.Version)
	}
	all := slices.Concat(f.LANs, f.WANs, f.Containers)
	for _, p := range all {
		if p != p.Masked() || !worthTelling(p) {
			t.Errorf("it tells of %v", p)
		}
	}
	if again := Facts("v1"); !slices.Equal(all, slices.Concat(again.LANs, again.WANs, again.Containers)) {
		t.Error("it tells something else the next time")
	}
	if f := Facts("v1", ""); len(f.LANs)+len(f.WANs)+len(f.Containers) != 0 {
		t.Error("what is to be left out is told")
	}
}
