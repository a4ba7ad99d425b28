package provisioning

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// maxHost is the longest DNS name in text, RFC 1035 §2.3.4.
const maxHost = 253

// CheckTarget refuses what is not the host:port of an application on a LAN: a DNS name or an address, and a TCP port.
func CheckTarget(s string) error { return checkHostPort("target", s, "104") }

// CheckEndpoint refuses what is not a host:port at which a gateway can be reached: a DNS name or an address, and a UDP port.
func CheckEndpoint(s string) error { return checkHostPort("endpoint", s, "51820") }

// checkHostPort takes the name of the field and a port for the example.
func checkHostPort(field, s, port string) error {
	invalid := func(why, hint string, a ...any) error {
		return Errorf(Invalid, "the %s %q %s", field, clipped(s), why).WithHint(hint, a...)
	}
	example := "write it as host:port, such as \"192.0.2.7:" + port + "\", \"pacs.example:" + port + "\" or \"[2001:db8::7]:" + port + "\""
	switch {
	case s == "":
		return Errorf(Invalid, "the %s is missing", field).WithHint("%s", example)
	case len(s) > maxHost+len(":65535"):
		return invalid("is too long", "%s", example)
	case strings.Contains(s, "://") || strings.Contains(s, "/"):
		return invalid("is not a host and a port but a web address or a path", "%s", example)
	case strings.TrimSpace(s) != s:
		return invalid("begins or ends with a space", "leave it out")
	}
	host, number, err := net.SplitHostPort(s)
	if err != nil {
		if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
			return invalid("has no port", "write %q", net.JoinHostPort(a.String(), port))
		}
		if strings.Contains(s, ":") {
			return invalid("is not a host and a port", "%s", example)
		}
		return invalid("has no port", "write %q if that is the port", s+":"+port)
	}
	if n, err := strconv.ParseUint(number, 10, 16); err != nil || n == 0 || number != strconv.FormatUint(n, 10) {
		return invalid("has no port from 1 to 65535", "%s", example)
	}
	if a, err := netip.ParseAddr(host); err == nil {
		switch {
		case a.Zone() != "":
			return invalid("names an interface", "leave out %q and what follows, and use an address that is not link-local", "%")
		case a.IsUnspecified() || a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
			return invalid("is no address of one machine", "enter the machine's own address")
		}
		return nil
	}
	if why := checkDNSName(host); why != "" {
		return invalid(why, "%s", example)
	}
	return nil
}

// checkDNSName says what is wrong with a name, "" for nothing. Underscores are taken: Windows networks have them.
func checkDNSName(host string) string {
	host = strings.TrimSuffix(host, ".")
	if host == "" {
		return "has no host"
	}
	labels := strings.Split(host, ".")
	for _, l := range labels {
		if l == "" || len(l) > maxName || strings.HasPrefix(l, "-") || strings.HasSuffix(l, "-") {
			return "is neither an address nor a valid name"
		}
		for i := range len(l) {
			if c := l[i] | 0x20; (c < 'a' || c > 'z') && (l[i] < '0' || l[i] > '9') && l[i] != '-' && l[i] != '_' {
				return "is neither an address nor a name of letters, digits and hyphens"
			}
		}
	}
	if strings.Trim(labels[len(labels)-1], "0123456789") == "" {
		return "looks like an address but is not a valid one"
	}
	return ""
}

// clipped keeps a message short.
func clipped(s string) string { return s[:min(len(s), 80)] }
