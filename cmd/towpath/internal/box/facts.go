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

// Facts collects what a box tells of itself. Interfaces whose name starts with one of skip are left out (our own tunnel).
func Facts(version string, skip ...string) wire.Facts {
	f := wire.Facts{Version: version, Serial: dmi("product_serial"), Model: strings.TrimSpace(dmi("sys_vendor") + " " + dmi("product_name"))}
	f.Hostname, _ = os.Hostname()
	f.LANs = lans(skip)
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

// lans returns the prefixes of all interfaces that are up, without loopback and link-local ones.
func lans(skip []string) []netip.Prefix {
	ifs, err := net.Interfaces()
	if err != nil {
		return nil
	}
	var out []netip.Prefix
	for _, i := range ifs {
		if i.Flags&net.FlagUp == 0 || i.Flags&net.FlagLoopback != 0 ||
			slices.ContainsFunc(skip, func(s string) bool { return strings.HasPrefix(i.Name, s) }) {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addrs {
			p, err := netip.ParsePrefix(a.String())
			if err != nil || p.Addr().IsLinkLocalUnicast() {
				continue
			}
			if p = p.Masked(); !slices.Contains(out, p) {
				out = append(out, p)
			}
		}
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return out
}
