package box

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/towpath/towpath/provisioning/wire"
)

// dmiDir is where Linux shows what the firmware says of the hardware.
const dmiDir = "/sys/class/dmi/id"

// Linux shows the routes of its main table here.
const (
	routes4 = "/proc/net/route"
	routes6 = "/proc/net/ipv6_route"
)

// Facts collects what a box tells of itself. Interfaces whose name starts with one of skip are left out (our own tunnel).
func Facts(version string, skip ...string) wire.Facts {
	f := classify(interfaces(skip))
	f.Version, f.Serial, f.Model = version, dmi("product_serial"), strings.TrimSpace(dmi("sys_vendor")+" "+dmi("product_name"))
	f.Hostname, _ = os.Hostname()
	return f
}

func dmi(name string) string {
	b, err := os.ReadFile(filepath.Join(dmiDir, name))
	if err != nil {
		return ""
	}
	s := strings.TrimSpace(string(b))
	return s[:min(len(s), 64)]
}

// interfaces returns those that are up, with networks that are worth telling.
func interfaces(skip []string) []iface {
	ifs, err := net.Interfaces()
	if err != nil {
		return nil
	}
	gateways := slices.Concat(defaults4(read(routes4)), defaults6(read(routes6)))
	var out []iface
	for _, i := range ifs {
		if i.Flags&net.FlagUp == 0 || i.Flags&net.FlagLoopback != 0 ||
			slices.ContainsFunc(skip, func(s string) bool { return strings.HasPrefix(i.Name, s) }) {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue
		}
		one := iface{name: i.Name, gateway: slices.Contains(gateways, i.Name)}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && worthTelling(p) {
				one.prefixes = append(one.prefixes, p.Masked())
			}
		}
		out = append(out, one)
	}
	return out
}

// Addresses are those of the interfaces that are up, without loopback, link-local ones and interfaces whose name begins with one of skip.
func Addresses(skip ...string) []netip.Addr {
	ifs, err := net.Interfaces()
	if err != nil {
		return nil
	}
	var out []netip.Addr
	for _, i := range ifs {
		if i.Flags&net.FlagUp == 0 || i.Flags&net.FlagLoopback != 0 ||
			slices.ContainsFunc(skip, func(s string) bool { return s != "" && strings.HasPrefix(i.Name, s) }) {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && worthTelling(p) {
				out = append(out, p.Addr())
			}
		}
	}
	return out
}

// read returns what a file holds, nothing if there is none: a machine without IPv6 has no such routes.
func read(name string) string {
	b, err := os.ReadFile(name)
	if err != nil {
		return ""
	}
	return string(b)
}
