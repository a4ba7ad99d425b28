//go:build lab

package gatewaytest

import (
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/tunnel/tunneltest/wan"
)

// TestLabDirectPath has a clinic and a center, each behind a router that translates addresses and lets nothing in, find each other through the
// relay and go past it. Then the coordinator, and the relay with it, is gone, and nothing is missed; the direct way is cut, and the relay serves;
// and the way is free again.
func TestLabDirectPath(t *testing.T) {
	n := NewNetwork(t, wan.Link{Delay: 10 * time.Millisecond}, wan.Link{Delay: 10 * time.Millisecond})
	n.Binary = build(t, n.Dir)
	f := &Fleet{n: n}
	n.towpath(t, n.Center, "coordinator", "init", "--dir", f.dir(), "--host", CenterWAN)
	f.Serve(t)

	const reading, readingLAN = "10.10.9.2", "10.10.9.1"
	radiology := NewNamespace(t, "radiology", n.Dir)
	connect(t, radiology, "lan0", reading, n.Clinic2, "lan9", readingLAN)
	radiology.IP(t, "route", "add", "default", "via", readingLAN)
	n.Clinic.translates(t)
	n.Clinic2.translates(t)

	radiology.Storescp(t, "archive", "ARCHIVE", 11112)
	f.Admin(t, "site", "add", "radiology", "--kind", "center")
	f.Admin(t, "site", "add", "praxis", "--kind", "clinic")
	f.Admin(t, "service", "add", "pacs", "--site", "radiology", "--dicom", "--ae-title", "ARCHIVE", "--target", reading+":11112", "--mode", "pass-through")
	f.Admin(t, "allow", "praxis", "pacs", "--port", "11112")
	center := f.Join(t, radiology, "radiology", f.Token(t, "token", "new", "--site", "radiology"))
	clinic := f.Join(t, n.Modality, "praxis", f.Token(t, "token", "new", "--site", "praxis"))
	center.Run(t, "--lan", reading)
	clinic.Run(t, "--lan", ModalityAddr)
	clinic.WaitForService(t, 11112)
	began := time.Now()
	echo := func(when string) {
		t.Helper()
		if !Within(30*time.Second, func() bool {
			_, code := n.Modality.Echo(t, ModalityAddr, 11112, "ARCHIVE")
			return code == 0
		}) {
			t.Fatalf("%s, the archive is not reached:\n%s", when, clinic.Status(t))
		}
	}
	becomes := func(state, when string) {
		t.Helper()
		began := time.Now()
		if !Within(90*time.Second, func() bool { return clinic.Way(t, "radiology") == state && center.Way(t, "praxis") == state }) {
			t.Fatalf("%s, the way is not %q at both ends:\n%s\n%s", when, state, clinic.Status(t), center.Status(t))
		}
		t.Logf("%s, the way was %q after %v", when, state, time.Since(began).Round(10*time.Millisecond))
	}
	echo("at first")
	t.Logf("the archive answered %v after the service was there", time.Since(began).Round(10*time.Millisecond))
	becomes("direct", "at first")
	t.Logf("the clinic says:\n%s", clinic.Status(t))

	pings := n.Modality.Ping(t, "without-coordinator", center.Address)
	f.server.Stop(t)
	echo("without the coordinator")
	files, objects, err := NewPatient().WriteStudy(t.TempDir(), 20, 256)
	if err != nil {
		t.Fatal(err)
	}
	if out, code := n.Modality.Store(t, ModalityAddr, 11112, "ARCHIVE", files); code != 0 {
		t.Errorf("%d objects: exit code %d:\n%s", len(objects), code, tail(out, 2000))
	}
	if gap, answers := pings.Gap(t); gap > time.Second || answers < 5 {
		t.Errorf("%d answers, and none for %v, when the relay went", answers, gap)
	}
	f.Serve(t)
	Eventually(t, time.Minute, "both are connected again", func() bool {
		return f.Member(t, "praxis").Online && f.Member(t, "radiology").Online
	})
	becomes("direct", "with the coordinator again")

	pings = n.Modality.Ping(t, "cut", center.Address)
	for _, rule := range []string{
		"add table inet cut", "add chain inet cut through { type filter hook forward priority 0 ; }",
		"add rule inet cut through ip saddr " + ClinicWAN + " ip daddr " + Clinic2WAN + " drop", "add rule inet cut through ip saddr " + Clinic2WAN + " ip daddr " + ClinicWAN + " drop",
	} {
		n.Internet.Must(t, 10*time.Second, nil, append([]string{"nft"}, strings.Fields(rule)...)...)
	}
	Eventually(t, 30*time.Second, "both ends have left the direct way", func() bool {
		return clinic.Way(t, "radiology") != "direct" && center.Way(t, "praxis") != "direct"
	})
	echo("with the direct way cut")
	gap, answers := pings.Gap(t)
	t.Logf("%d pings were answered; the longest gap, when the direct way was cut, was %v", answers, gap.Round(10*time.Millisecond))
	if gap > 5*time.Second {
		t.Errorf("nothing for %v when the direct way was cut", gap)
	}
	n.Internet.Must(t, 10*time.Second, nil, "nft", "delete", "table", "inet", "cut")
	becomes("direct", "with the way free again")
}

// translates makes a namespace a router as clinics have it: addresses are translated on the way out, and nothing comes in unasked.
func (n Namespace) translates(t testing.TB) {
	t.Helper()
	n.Sysctl(t, "net/ipv4/ip_forward", "1")
	for _, rule := range []string{
		"add table ip router", "add chain ip router post { type nat hook postrouting priority 100 ; }", "add rule ip router post oifname wan0 masquerade",
		"add chain ip router in { type filter hook input priority 0 ; }", "add rule ip router in iifname wan0 ct state new drop",
		"add chain ip router through { type filter hook forward priority 0 ; }", "add rule ip router through iifname wan0 ct state new drop",
	} {
		n.Must(t, 10*time.Second, nil, append([]string{"nft"}, strings.Fields(rule)...)...)
	}
}

// Way is the state of the path to a site; empty while that is no relayed peer.
func (b *Box) Way(t testing.TB, site string) string {
	t.Helper()
	out, _ := b.in.Run(t, 20*time.Second, []string{"HOME=" + b.f.n.Dir}, b.f.n.Binary, "status", "--json", "--state", b.state())
	var s struct {
		Tunnel struct {
			Peers []struct {
				Site string `json:"site"`
				Path struct {
					State string `json:"state"`
				} `json:"path"`
			} `json:"peers"`
		} `json:"tunnel"`
	}
	b.f.decode(t, out, &s)
	for _, p := range s.Tunnel.Peers {
		if p.Site == site {
			return p.Path.State
		}
	}
	return ""
}
