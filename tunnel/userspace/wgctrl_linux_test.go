package userspace_test

import (
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl"

	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/tunneltest"
	"github.com/towpath/towpath/tunnel/userspace"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// TestForeignToolsSeeTheDevice reads a running device through its configuration socket with the library that wg(8)-like tools are made
// with, not with our own parser.
func TestForeignToolsSeeTheDevice(t *testing.T) {
	tunneltest.NeedRoot(t)
	key, err := wgkey.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	pub, err := key.Public()
	if err != nil {
		t.Fatal(err)
	}
	other, err := wgkey.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	peer, err := other.Public()
	if err != nil {
		t.Fatal(err)
	}
	dev := inNamespaces(t, 1)[0].Device
	want := tunnel.Config{
		PrivateKey: key, ListenPort: 51999, Addresses: []netip.Prefix{netip.MustParsePrefix("10.201.1.1/32")},
		Peers: []tunnel.Peer{{
			PublicKey: peer, Endpoint: netip.MustParseAddrPort("198.51.100.9:51820"), PersistentKeepalive: 25 * time.Second,
			AllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.201.0.17/32"), netip.MustParsePrefix("fd00:201::17/128")},
		}},
	}
	if err := dev.Configure(t.Context(), want); err != nil {
		t.Fatal(err)
	}

	c, err := wgctrl.New()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	got, err := c.Device("towtest0")
	if err != nil {
		t.Fatalf("find the device by its name: %v", err)
	}
	if wgkey.PublicKey(got.PublicKey) != pub || got.ListenPort != 51999 {
		t.Errorf("key %s, port %d; want %s, 51999", got.PublicKey, got.ListenPort, pub)
	}
	if len(got.Peers) != 1 {
		t.Fatalf("%d peers, want one", len(got.Peers))
	}
	p := got.Peers[0]
	if wgkey.PublicKey(p.PublicKey) != peer || p.PersistentKeepaliveInterval != 25*time.Second ||
		p.Endpoint.String() != want.Peers[0].Endpoint.String() {
		t.Errorf("peer %s at %s with keepalive %s", p.PublicKey, p.Endpoint, p.PersistentKeepaliveInterval)
	}
	if len(p.AllowedIPs) != 2 {
		t.Errorf("allowed IPs %v, want two", p.AllowedIPs)
	}
}

// wg(8) itself shows the device.
func TestForeignToolShowsTheDevice(t *testing.T) {
	wg, err := exec.LookPath("wg")
	if err != nil {
		t.Skip("no wg here")
	}
	ns, dev := single(t, userspace.Options{})
	c := tunneltest.OneNode(t)
	if err := dev.Configure(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	var out []byte
	if err := ns.Do(func() (err error) {
		out, err = exec.CommandContext(t.Context(), wg, "show", ifName).CombinedOutput()
		return err
	}); err != nil {
		t.Fatalf("wg: %v: %s", err, out)
	}
	for _, want := range []string{
		"interface: " + ifName, "fwmark: 0x70770001", "peer: " + c.Peers[0].PublicKey.String(), "endpoint: 198.51.100.2:51820", "100.64.1.0/24",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("wg does not show %q:\n%s", want, out)
		}
	}
}
