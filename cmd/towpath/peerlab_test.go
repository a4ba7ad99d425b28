package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/gateway/health"
	"github.com/towpath/towpath/gateway/reconcile"
	"github.com/towpath/towpath/provisioning/adminapi"
	"github.com/towpath/towpath/provisioning/coordinator"
	"github.com/towpath/towpath/provisioning/provisioningtest"
	"github.com/towpath/towpath/provisioning/store/sqlite"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/dicom"
	"github.com/towpath/towpath/proxy/proxytest"
	"github.com/towpath/towpath/proxy/spool"
	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/netstack"
	"github.com/towpath/towpath/tunnel/tunneltest"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// parseWGQuick reads a file as wg-quick(8) and wg(8) do, and nothing that they would not take: sections, keys and values by their names, each
// key where it belongs and at most once.
func parseWGQuick(text string) (tunnel.Config, error) {
	var c tunnel.Config
	var seen map[string]bool
	section := ""
	for i, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		if line == "[Interface]" && section == "" || line == "[Peer]" && section != "" {
			section, seen = line, map[string]bool{}
			if line == "[Peer]" {
				c.Peers = append(c.Peers, tunnel.Peer{})
			}
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if !ok || section == "" || seen[key] || value == "" {
			return c, fmt.Errorf("line %d, %q, is out of place", i+1, line)
		}
		seen[key] = true
		if err := setWGQuick(&c, section, key, value); err != nil {
			return c, fmt.Errorf("line %d: %w", i+1, err)
		}
	}
	if c.PrivateKey.IsZero() || len(c.Addresses) == 0 {
		return c, fmt.Errorf("there is no key or no address in %q", section)
	}
	return c, c.Validate()
}

func setWGQuick(c *tunnel.Config, section, key, value string) (err error) {
	prefixes := func() (out []netip.Prefix) {
		for s := range strings.SplitSeq(value, ",") {
			p, e := netip.ParsePrefix(strings.TrimSpace(s))
			if e != nil {
				err = e
			}
			out = append(out, p)
		}
		return out
	}
	number := func() int {
		n, e := strconv.ParseUint(value, 10, 16)
		if e != nil {
			err = e
		}
		return int(n)
	}
	if section == "[Interface]" {
		switch key {
		case "PrivateKey":
			c.PrivateKey, err = wgkey.ParsePrivateKey(value)
		case "Address":
			c.Addresses = prefixes()
		case "MTU":
			c.MTU = number()
		default:
			err = fmt.Errorf("the section %s has no %s", section, key)
		}
		return err
	}
	p := &c.Peers[len(c.Peers)-1]
	switch key {
	case "PublicKey":
		p.PublicKey, err = wgkey.ParsePublicKey(value)
	case "AllowedIPs":
		p.AllowedIPs = prefixes()
	case "Endpoint":
		p.Endpoint, err = netip.ParseAddrPort(value)
	case "PersistentKeepalive":
		p.PersistentKeepalive = time.Duration(number()) * time.Second
	default:
		err = fmt.Errorf("the section %s has no %s", section, key)
	}
	return err
}

// peerLab is a coordinator with its API, and a center's box, all in this process.
type peerLab struct {
	*provisioningtest.Network
	t        *testing.T
	dir      string
	internet *tunneltest.Network
	node     *provisioningtest.Node
	lan      *proxytest.Network
	device   *netstack.Device
	runner   *reconcile.Runner
}

const (
	peerLabWAN  = "198.51.100.1:51820"
	peerLabPACS = "192.168.178.20:104"
)

func newPeerLab(t *testing.T) *peerLab {
	t.Helper()
	st, err := sqlite.Open(context.Background(), filepath.Join(t.TempDir(), "coordinator.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	l := &peerLab{Network: provisioningtest.New(t, st, provisioningtest.Options{}), t: t, dir: t.TempDir(), internet: tunneltest.NewNetwork(), lan: proxytest.NewNetwork()}
	socket, err := net.Listen("unix", filepath.Join(l.dir, adminSocket))
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: adminapi.Handler(l.Coordinator, nil, nil)}
	go func() { _ = srv.Serve(socket) }()
	t.Cleanup(func() { _ = srv.Close() })

	l.Center(t, "lab", peerLabWAN)
	l.Clinic(t, "nord")
	l.Clinic(t, "sued")
	for name, title := range map[string]string{"pacs": "PACS", "other": "OTHER"} {
		if _, err := l.CreateService(t.Context(), "test", coordinator.NewService{
			Site: "lab", Name: name, Protocol: wire.DICOM, AETitle: title, Target: peerLabPACS, Mode: wire.PassThrough,
		}); err != nil {
			t.Fatal(err)
		}
	}
	l.Grant(t, "other", "sued") // so that it is offered, to somebody else
	l.node = l.Node(t, "lab")
	l.Node(t, "nord")
	l.Node(t, "sued")
	l.startBox()
	return l
}

// startBox starts what is behind the center's address, and an archive on its LAN.
func (l *peerLab) startBox() {
	var err error
	if l.device, err = netstack.New(netstack.Options{Bind: l.internet.Bind(netip.MustParseAddrPort(peerLabWAN).Addr())}); err != nil {
		l.t.Fatal(err)
	}
	queue, err := spool.Open(l.t.TempDir(), spool.Options{MinFreeBytes: -1})
	if err != nil {
		l.t.Fatal(err)
	}
	l.runner = reconcile.NewRunner(reconcile.RunnerConfig{
		Device: l.device, LANNet: l.lan, OverlayNet: l.device, Queue: queue, Health: new(health.Set), Log: slog.New(slog.DiscardHandler),
	})
	archive, err := dicom.NewArchive(dicom.ArchiveConfig{Dir: l.t.TempDir(), AETitle: "PACS"})
	if err != nil {
		l.t.Fatal(err)
	}
	ln, err := l.lan.Listen(l.t.Context(), "tcp", peerLabPACS)
	if err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(l.t.Context()))
	done := make(chan error, 1)
	go func() {
		done <- proxy.NewServer(proxy.ServerConfig{Name: "pacs", Listener: ln, Handler: archive}).Serve(ctx)
	}()
	l.t.Cleanup(func() {
		_ = l.device.Close()
		l.runner.Stop()
		cancel()
		_ = ln.Close()
		<-done
		_ = archive.Close()
		_ = queue.Close()
	})
}

// apply makes the center's newest map true.
func (l *peerLab) apply() {
	l.t.Helper()
	_, m, err := l.NetMapFor(l.t.Context(), l.node.ID)
	if err != nil {
		l.t.Fatal(err)
	}
	d, err := reconcile.Compile(m, reconcile.Local{PrivateKey: l.node.Key, ListenPort: 51820, LANAddress: netip.MustParseAddr("192.168.178.1")})
	if err != nil {
		l.t.Fatal(err)
	}
	if err := l.runner.Apply(l.t.Context(), d); err != nil {
		l.t.Fatal(err)
	}
}

// run runs a command and returns what it prints.
func (l *peerLab) run(args ...string) string {
	l.t.Helper()
	out, err := l.try(args...)
	if err != nil {
		l.t.Fatalf("%q: %v", args, err)
	}
	return out
}

func (l *peerLab) try(args ...string) (string, error) {
	var out bytes.Buffer
	app := newApp()
	app.Writer = &out
	err := app.RunContext(l.t.Context(), permute(app, append(append([]string{"towpath"}, args...), "--dir", l.dir)))
	return out.String(), err
}
