//go:build lab

package gatewaytest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/proxy/dicom"
	"github.com/towpath/towpath/tunnel/netstack"
	"github.com/towpath/towpath/tunnel/tunneltest/wan"
)

// laptopWAN is the address of Network.Laptop.
const laptopWAN = "198.18.4.2"

// Environment of TestPlainCaller: its file, where it calls, and whom.
const (
	callerFile   = "TOWPATH_LAB_CALLER_FILE"
	callerTarget = "TOWPATH_LAB_CALLER_TARGET"
)

// TestLabRelay has a router with plain WireGuard, behind a provider's address translation, reach the archive of a center that nobody can call
// either: both know the coordinator's address and nothing else. Then the coordinator is stopped and started again, and it works again; and a
// standalone relay takes over.
func TestLabRelay(t *testing.T) {
	n := NewNetwork(t, wan.Link{Delay: 10 * time.Millisecond}, wan.Link{Delay: 10 * time.Millisecond})
	n.Binary = build(t, n.Dir)
	f := &Fleet{n: n}
	n.towpath(t, n.Center, "coordinator", "init", "--dir", f.dir(), "--host", CenterWAN)
	f.Serve(t)

	// What is behind the provider's translator leaves with another port for each place it calls; and nothing gets in to the center unasked.
	n.Clinic.Sysctl(t, "net/ipv4/ip_forward", "1")
	for _, rule := range []string{
		"add table ip cgnat", "add chain ip cgnat post { type nat hook postrouting priority 100 ; }",
		"add rule ip cgnat post oifname wan0 masquerade random,fully-random",
	} {
		n.Clinic.Must(t, 10*time.Second, nil, append([]string{"nft"}, strings.Fields(rule)...)...)
	}
	for _, rule := range []string{
		"add table inet fw", "add chain inet fw in { type filter hook input priority 0 ; }", "add rule inet fw in iifname wan0 ct state new drop",
	} {
		n.Clinic2.Must(t, 10*time.Second, nil, append([]string{"nft"}, strings.Fields(rule)...)...)
	}

	n.Clinic2.Storescp(t, "archive", "ARCHIVE", 11112)
	f.Admin(t, "site", "add", "radiology", "--kind", "center")
	f.Admin(t, "site", "add", "praxis", "--kind", "clinic")
	f.Admin(t, "service", "add", "pacs", "--site", "radiology", "--dicom", "--ae-title", "ARCHIVE", "--target", ClinicLAN+":11112", "--mode", "pass-through")
	f.Admin(t, "allow", "praxis", "pacs", "--port", "11112")
	box := f.Enroll(t, n.Clinic2, "radiology")
	file := filepath.Join(n.Dir, "fritz.conf")
	f.Admin(t, "peer", "add", "fritz", "--site", "praxis", "--out", file)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "Endpoint = "+CenterWAN+":51820\n") {
		t.Fatalf("the plain device is to call somewhere else:\n%s", text)
	}
	var services []struct {
		At string `json:"at"`
	}
	f.decode(t, f.Admin(t, "service", "list", "--json"), &services)
	echo := func(when string) {
		t.Helper()
		out, took := "", time.Now()
		if !Within(90*time.Second, func() bool {
			var code int
			out, code = n.Modality.Run(t, 40*time.Second, []string{callerFile + "=" + file, callerTarget + "=" + services[0].At},
				os.Args[0], "-test.run=^TestPlainCaller$", "-test.v")
			return code == 0
		}) {
			t.Fatalf("%s, the plain device does not reach the archive:\n%s\n%s", when, out, box.Status(t))
		}
		t.Logf("%s, the plain device reached the archive after %v:\n%s", when, time.Since(took).Round(10*time.Millisecond), out)
	}
	echo("at first")

	f.server.Stop(t)
	f.Serve(t)
	echo("after a restart of the coordinator")

	relay := n.Laptop(t)
	f.Admin(t, "site", "add", "relay-1", "--kind", "center", "--endpoint", laptopWAN+":51820")
	b := f.Join(t, relay, "relay-1", f.Token(t, "token", "new", "--site", "relay-1", "--kind", "relay"))
	n.start(t, relay, "relay", "relay", "--state", b.state())
	Eventually(t, 30*time.Second, "the file of the plain device names the relay", func() bool {
		return strings.Contains(f.Admin(t, "peer", "config", "fritz"), "Endpoint = "+laptopWAN+":51820\n")
	})
	moved := strings.ReplaceAll(string(text), CenterWAN+":51820", laptopWAN+":51820")
	if err := os.WriteFile(file, []byte(moved), 0o600); err != nil {
		t.Fatal(err)
	}
	Eventually(t, time.Minute, "the relay has found the center", func() bool { return strings.Contains(b.Status(t), "1 located") })
	echo("through a relay of its own")
	f.server.Stop(t)
	echo("without the coordinator")
}

// TestPlainCaller is WireGuard from a file of wg-quick(8), and a modality behind it.
func TestPlainCaller(t *testing.T) {
	file := os.Getenv(callerFile)
	if file == "" {
		t.Skip("the lab starts this in a namespace")
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	dev, err := netstack.New(netstack.Options{Name: "plain"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = dev.Close() }()
	if err := dev.Configure(t.Context(), readQuick(t, string(text))); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	r, err := dicom.Echo(ctx, dicom.EchoConfig{Network: dev, Target: os.Getenv(callerTarget), CallingAE: "FRITZ", CalledAE: "ARCHIVE"})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("connected in %v, C-ECHO in %v\n", r.Connect.Round(time.Millisecond), r.Echo.Round(time.Millisecond))
}
