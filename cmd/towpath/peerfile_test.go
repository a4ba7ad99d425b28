package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/towpath/towpath/provisioning/adminapi"
	"github.com/towpath/towpath/provisioning/coordinator"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/dicom"
	"github.com/towpath/towpath/tunnel/netstack"
	"github.com/towpath/towpath/tunnel/tunneltest"
)

// A file that was printed is brought up as it is, by an implementation of WireGuard that knows nothing of us.
func TestPeerFileWorks(t *testing.T) {
	l := newPeerLab(t)
	l.run("allow", "nord", "pacs")
	text := l.run("peer", "add", "phone", "--site", "nord")
	conf, err := parseWGQuick(text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	center := l.node.Map().Self.Address
	if len(conf.Peers) != 1 || conf.MTU != 1280 || conf.Peers[0].Endpoint.String() != peerLabWAN || conf.Peers[0].PersistentKeepalive != 25*time.Second ||
		!slices.Equal(conf.Peers[0].AllowedIPs, []netip.Prefix{netip.PrefixFrom(center, 32)}) {
		t.Errorf("the file says %+v:\n%s", conf, text)
	}
	l.apply()
	phone, err := netstack.New(netstack.Options{Bind: l.internet.Bind(netip.MustParseAddr("203.0.113.5"))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = phone.Close() })
	if err := phone.Configure(t.Context(), conf); err != nil {
		t.Fatal(err)
	}
	services, err := l.Services(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	at := map[string]string{}
	for _, v := range services {
		at[v.Name] = v.At.String()
	}
	if !strings.Contains(text, "DICOM, called AE title PACS at "+at["pacs"]) || strings.Contains(text, "OTHER") {
		t.Errorf("the file does not say what the device may use:\n%s", text)
	}
	echo := echoAt(t, phone, at["pacs"])
	if err := echo(tunneltest.Patience); err != nil {
		t.Fatalf("the granted service: %v", err)
	}

	if err := opens(t.Context(), phone, at["pacs"]); err != nil {
		t.Fatalf("the granted service: %v", err)
	}
	refused(t, phone, map[string]string{
		"a service of others":         at["other"],
		"another port of the box":     netip.AddrPortFrom(center, 22).String(),
		"the center's LAN":            peerLabPACS,
		"the hub":                     "10.201.0.1:8080",
		"the box of its own site":     netip.AddrPortFrom(addressOf(t, l, "nord"), 11112).String(),
		"the box of another clinic":   netip.AddrPortFrom(addressOf(t, l, "sued"), 11112).String(),
		"an address that nobody has":  "10.201.77.1:11112",
		"the LAN port of the gateway": "192.168.178.1:11112",
	})
	// A device in the wrong hands routes what it likes into the tunnel.
	greedy := conf
	greedy.Peers = slices.Clone(conf.Peers)
	greedy.Peers[0].AllowedIPs = []netip.Prefix{netip.MustParsePrefix("10.201.0.0/16"), netip.MustParsePrefix("192.168.0.0/16")}
	if err := phone.Configure(t.Context(), greedy); err != nil {
		t.Fatal(err)
	}
	refused(t, phone, map[string]string{
		"a service of others, greedy":       at["other"],
		"the center's LAN, greedy":          peerLabPACS,
		"the hub, greedy":                   "10.201.0.1:8080",
		"the box of another clinic, greedy": netip.AddrPortFrom(addressOf(t, l, "sued"), 11112).String(),
	})
	if err := echo(tunneltest.Patience); err != nil {
		t.Fatalf("the granted service afterwards: %v", err)
	}
	l.run("disallow", "nord", "pacs")
	l.apply()
	if err := echo(3 * tunneltest.Silence); err == nil {
		t.Error("the service is reached without a grant")
	}
}

func echoAt(t *testing.T, n proxy.Network, at string) func(time.Duration) error {
	return func(patience time.Duration) error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
		defer cancel()
		_, err := dicom.Echo(ctx, dicom.EchoConfig{Network: n, Target: at, CalledAE: "PACS"})
		return err
	}
}

func addressOf(t *testing.T, l *peerLab, site string) netip.Addr {
	t.Helper()
	nodes, err := l.Nodes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(nodes, func(n coordinator.NodeInfo) bool { return n.SiteName == site && n.Kind == wire.Gateway })
	return nodes[i].Address
}

// opens reports how an attempt to open a connection ends. A box that takes the connection and ends it at once has refused it; one that waits
// for the first word has not.
func opens(ctx context.Context, n proxy.Network, at string) error {
	c, err := n.DialContext(ctx, "tcp", at)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if err := c.SetReadDeadline(time.Now().Add(tunneltest.Silence)); err != nil {
		return err
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return nil
}

// refused tries ways that must not be there, all at once.
func refused(t *testing.T, n proxy.Network, ways map[string]string) {
	t.Helper()
	var all sync.WaitGroup
	for what, at := range ways {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 3*tunneltest.Silence)
			defer cancel()
			if err := opens(ctx, n, at); err == nil {
				t.Errorf("%s is reached at %s", what, at)
			}
		})
	}
	all.Wait()
}

func TestPeerFiles(t *testing.T) {
	l := newPeerLab(t)
	l.run("allow", "nord", "pacs")
	dir := t.TempDir()
	path, png := filepath.Join(dir, "phone.conf"), filepath.Join(dir, "phone.png")
	said := l.run("peer", "add", "phone", "--site", "nord", "--out", path, "--qr-png", png)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	conf, err := parseWGQuick(string(b))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(said, conf.PrivateKey.RevealText()) || !strings.Contains(said, path) {
		t.Errorf("beside the file it says %q", said)
	}
	for _, f := range []string{path, png} {
		if st, err := os.Stat(f); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v (%v)", f, st.Mode(), err)
		}
	}
	if _, err := l.try("peer", "add", "tablet", "--site", "nord", "--out", path); err == nil || !strings.Contains(err.Error(), "there already") {
		t.Errorf("a file was replaced: %v", err)
	}
	if _, err := l.try("peer", "add", "tablet", "--site", "nord", "--out", filepath.Join(dir, "none", "x")); err == nil {
		t.Error("a file in no directory was written")
	}
	if out := l.run("peer", "list"); !strings.Contains(out, "phone") || strings.Contains(out, "tablet") {
		t.Errorf("the list is\n%s", out)
	}

	// The same again without the key, which is what has to be taken over when the plan has changed.
	again := l.run("peer", "config", "phone")
	if strings.ReplaceAll(again, noPrivateKey, conf.PrivateKey.RevealText()) != strings.Replace(string(b), "# It holds the private key: whoever reads it is this device.\n", "", 1) {
		t.Errorf("first\n%s\nthen\n%s", b, again)
	}
	if _, err := parseWGQuick(again); err == nil {
		t.Error("a program would take the placeholder for a key")
	}
	key, err := conf.PrivateKey.Public()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.try("peer", "add", "tablet", "--site", "nord", "--key", key.String()); err == nil || !strings.Contains(err.Error(), "device phone") {
		t.Errorf("two devices have a key: %v", err)
	}
	l.run("peer", "remove", "phone", "--site", "nord")
	if out := l.run("peer", "add", "tablet", "--site", "nord", "--key", key.String()); !strings.Contains(out, "PrivateKey = "+noPrivateKey) {
		t.Errorf("with a key of its own, the file is\n%s", out)
	}
	var v struct{ Name, File string }
	if err := json.Unmarshal([]byte(l.run("peer", "add", "laptop", "--site", "nord", "--json")), &v); err != nil || v.Name != "laptop" {
		t.Errorf("%+v, %v", v, err)
	}
	if _, err := parseWGQuick(v.File); err != nil {
		t.Error(err)
	}
	for _, bad := range [][]string{
		{"--format", "openvpn"},
		{"--key", "AAAA"},
		{"--address", "nonsense"},
		{"--format", formatFritzBox, "--qr"},
		{"--qr", "--key", key.String()},
		{"--format", formatFritzBox, "--address", "fd00::1"},
	} {
		if _, err := l.try(append([]string{"peer", "add", "bad", "--site", "nord"}, bad...)...); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	if out := l.run("peer", "list"); strings.Contains(out, "bad") {
		t.Errorf("a refused device is there:\n%s", out)
	}
}

func TestFritzBoxFile(t *testing.T) {
	l := newPeerLab(t)
	l.run("allow", "nord", "pacs")
	text := l.run("peer", "add", "fritz", "--site", "nord", "--format", formatFritzBox)
	if strings.ContainsAny(text, "#") || strings.Contains(text, "::") {
		t.Errorf("FRITZ!OS does not take\n%s", text)
	}
	conf, err := parseWGQuick(text)
	if err != nil || len(conf.Peers) != 1 || conf.Addresses[0].Bits() != 32 {
		t.Errorf("%v\n%s", err, text)
	}
	f := peerFile{PeerConfig: adminapi.PeerConfig{Name: "fritz", Site: "nord", State: "active", Address: netip.MustParseAddr("10.201.5.1"), Peers: []adminapi.PeerPeer{
		{Site: "a", PublicKey: "A=", Endpoints: []string{"a.example:1", "192.0.2.1:1"}, AllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.1.0.1/32"), netip.MustParsePrefix("fd00::1/128")}},
		{Site: "b", PublicKey: "B=", AllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.1.0.2/32")}},
		{Site: "c", PublicKey: "C=", Endpoints: []string{"c.example:1"}, AllowedIPs: []netip.Prefix{netip.MustParsePrefix("fd00::3/128")}},
	}}}
	want := `[Interface]
PrivateKey = PUT-THE-PRIVATE-KEY-HERE
Address = 10.201.5.1/32
MTU = 1280

[Peer]
PublicKey = A=
AllowedIPs = 10.1.0.1/32
Endpoint = a.example:1
PersistentKeepalive = 25
`
	if got := f.fritzBox(); got != want {
		t.Errorf("got\n%s", got)
	}
}

// What the file cannot say is said beside it.
func TestPeerNotes(t *testing.T) {
	peer := func(site string, endpoints ...string) adminapi.PeerPeer {
		return adminapi.PeerPeer{Site: site, Endpoints: endpoints}
	}
	for name, tc := range map[string]struct {
		f    adminapi.PeerConfig
		want string
	}{
		"nothing to say": {adminapi.PeerConfig{State: "active", Peers: []adminapi.PeerPeer{peer("lab", "a:1")}}, ""},
		"waiting":        {adminapi.PeerConfig{State: "waiting", Reason: "not signed yet"}, "not signed yet, so its file has no peers"},
		"no grant":       {adminapi.PeerConfig{State: "active", Site: "nord"}, "towpath allow nord SERVICE"},
		"nobody":         {adminapi.PeerConfig{State: "active", Peers: []adminapi.PeerPeer{peer("lab"), peer("radio")}}, "cannot call anybody yet: no gateway of lab, radio has an address"},
		"some":           {adminapi.PeerConfig{State: "active", Peers: []adminapi.PeerPeer{peer("lab", "a:1"), peer("radio")}}, "cannot call the gateway of radio"},
	} {
		got := strings.Join(peerFile{PeerConfig: tc.f}.notes(), "\n")
		if !strings.Contains(got, tc.want) || tc.want == "" && got != "" {
			t.Errorf("%s: %q", name, got)
		}
	}
}
