//go:build lab

package gatewaytest

import (
	"context"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// Addresses of the overlay that nobody has, so that nothing can answer.
const (
	nobody4 = "10.201.77.77"
	nobody6 = "fd7a:10::77"
)

// locksProtocol is the number of our routes in the kernel's table.
const locksProtocol = "116"

// Unlock takes a lock off a namespace, as root could by mistake.
func (n Namespace) Unlock(t testing.TB, locks ...string) {
	t.Helper()
	for _, l := range locks {
		switch l {
		case "blackhole":
			n.reachable(t)
		case "firewall":
			n.Run(t, 10*time.Second, nil, "nft", "delete", "table", "inet", "towpath")
		default:
			t.Fatalf("there is no lock %q", l)
		}
	}
	left := n.Locks(t)
	for _, l := range locks {
		if slices.Contains(left, l) {
			t.Fatalf("the %s could not be taken off", l)
		}
	}
}

// reachable takes away the unreachable routes that are there now.
func (n Namespace) reachable(t testing.TB) {
	t.Helper()
	for _, family := range []string{"-4", "-6"} {
		n.Run(t, 10*time.Second, nil, "ip", family, "route", "flush", "proto", locksProtocol, "type", "unreachable")
	}
}

// Locks are those of the machine that are there: the routes of both families, and the table.
func (n Namespace) Locks(t testing.TB) (list []string) {
	t.Helper()
	routes := 0
	for _, family := range []string{"-4", "-6"} {
		out, _ := n.Run(t, 10*time.Second, nil, "ip", family, "route", "show", "proto", locksProtocol, "type", "unreachable")
		if strings.Contains(out, "unreachable") {
			routes++
		}
	}
	if routes == 1 {
		t.Error("the overlay is unreachable in one family only")
	}
	if routes > 0 {
		list = append(list, "blackhole")
	}
	if out, code := n.Run(t, 10*time.Second, nil, "nft", "list", "table", "inet", "towpath"); code == 0 && strings.Contains(out, "hook postrouting") {
		list = append(list, "firewall")
	}
	return list
}

// Link6 gives both ends of a cable IPv6 with link-local addresses, and the first a default route to the second: what leaks, leaks in plain
// sight, and the line itself needs nothing else.
func Link6(t testing.TB, a Namespace, devA string, b Namespace, devB string) {
	t.Helper()
	for _, end := range []struct {
		n        Namespace
		dev, own string
	}{{a, devA, "fe80::a"}, {b, devB, "fe80::b"}} {
		end.n.Sysctl(t, "net/ipv6/conf/"+end.dev+"/addr_gen_mode", "1")
		end.n.Sysctl(t, "net/ipv6/conf/"+end.dev+"/disable_ipv6", "0")
		end.n.IP(t, "-6", "address", "add", end.own+"/64", "dev", end.dev, "nodad")
	}
	a.IP(t, "-6", "route", "add", "default", "via", "fe80::b", "dev", devA)
}

// Knock sends TCP, UDP and ICMP to addresses of the overlay, from whatever address the machine takes. Nothing of it may be answered.
func (n Namespace) Knock(t testing.TB, hosts ...string) {
	t.Helper()
	for _, h := range hosts {
		for _, port := range []string{"104", "11112", "2575", "22"} {
			if n.try("tcp", net.JoinHostPort(h, port), "") {
				t.Errorf("%s reaches %s port %s", n.name, h, port)
			}
		}
		if n.try("udp", net.JoinHostPort(h, "104"), "") {
			t.Errorf("%s gets an answer from %s by UDP", n.name, h)
		}
		if out, code := n.Run(t, 10*time.Second, nil, "ping", "-n", "-c", "1", "-W", "1", h); code == 0 {
			t.Errorf("%s can ping %s:\n%s", n.name, h, out)
		}
	}
}

// try sends something, from an own address if one is given, and reports whether there was an answer within a quarter of a second.
func (n Namespace) try(network, address, source string) (answered bool) {
	_ = n.enter(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 250*time.Millisecond)
		defer cancel()
		d := net.Dialer{FallbackDelay: -1}
		if source != "" {
			d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(source)}
		}
		c, err := d.DialContext(ctx, network, address)
		if err != nil {
			return err
		}
		defer c.Close()
		answered = true
		if network == "udp" {
			_ = c.SetDeadline(time.Now().Add(250 * time.Millisecond))
			_, _ = c.Write([]byte("knock"))
			_, err := c.Read(make([]byte, 1))
			answered = err == nil
		}
		return nil
	})
	return answered
}
