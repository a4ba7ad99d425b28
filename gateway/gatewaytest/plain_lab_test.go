//go:build lab

package gatewaytest

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/netstack"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// Environment of TestPlainDevice: its file, and the addresses it knocks at.
const (
	plainFile  = "TOWPATH_LAB_PLAIN_FILE"
	plainKnock = "TOWPATH_LAB_PLAIN_KNOCK"
)

// plain gives a device without our software a file, and lets it knock: at the service that its site may use, and at others.
func (w *membership) plain(t *testing.T) {
	file := filepath.Join(w.n.Dir, "phone.conf")
	w.f.Admin(t, "peer", "add", "phone", "--site", "clinic-a", "--out", file)
	var services []struct {
		Name string `json:"name"`
		At   string `json:"at"`
	}
	w.f.decode(t, w.f.Admin(t, "service", "list", "--json"), &services)
	places := map[string]string{}
	for _, s := range services {
		places[s.Name] = s.At
	}
	center := w.f.Member(t, "center").Address
	knock := []string{places["direct"], places["secret"], center + ":22", w.a.Address + ":" + strconv.Itoa(directPort)}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out, code := w.laptop.Run(t, time.Minute, []string{plainFile + "=" + file, plainKnock + "=" + strings.Join(knock, ",")},
		self, "-test.run=^TestPlainDevice$", "-test.v")
	if code != 0 {
		t.Fatalf("the device ended with %d:\n%s", code, out)
	}
	for i, address := range knock {
		if reached := strings.Contains(out, "reached "+address+"\n"); reached != (i == 0) {
			t.Errorf("the device reaches %s: %v\n%s", address, reached, out)
		}
	}
	w.tr.note("plain device: reaches the granted service, and none of %d other places", len(knock)-1)
}

// TestPlainDevice is that device: WireGuard from a file of wg-quick(8), and nothing of ours around it.
func TestPlainDevice(t *testing.T) {
	file := os.Getenv(plainFile)
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
	for address := range strings.SplitSeq(os.Getenv(plainKnock), ",") {
		ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
		c, err := dev.DialContext(ctx, "tcp", address)
		cancel()
		if err == nil {
			err = Kept(c)
		}
		if err != nil {
			fmt.Printf("not %s: %v\n", address, err)
			continue
		}
		fmt.Printf("reached %s\n", address)
	}
}

// readQuick reads what matters of a file of wg-quick(8).
func readQuick(t *testing.T, text string) tunnel.Config {
	t.Helper()
	var c tunnel.Config
	var err error
	list := func(s string) (out []netip.Prefix) {
		for p := range strings.SplitSeq(s, ",") {
			x, err := netip.ParsePrefix(strings.TrimSpace(p))
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, x)
		}
		return out
	}
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(line, "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if key == "[Peer]" {
			c.Peers = append(c.Peers, tunnel.Peer{})
		}
		i := len(c.Peers) - 1
		err = nil
		switch key {
		case "PrivateKey":
			c.PrivateKey, err = wgkey.ParsePrivateKey(value)
		case "Address":
			c.Addresses = list(value)
		case "MTU":
			c.MTU, err = strconv.Atoi(value)
		case "PublicKey":
			c.Peers[i].PublicKey, err = wgkey.ParsePublicKey(value)
		case "AllowedIPs":
			c.Peers[i].AllowedIPs = list(value)
		case "Endpoint":
			c.Peers[i].Endpoint, err = netip.ParseAddrPort(value)
		case "PersistentKeepalive":
			c.Peers[i].PersistentKeepalive, err = time.ParseDuration(value + "s")
		}
		if err != nil {
			t.Fatalf("%s: %v", key, err)
		}
	}
	return c
}
