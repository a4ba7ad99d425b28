package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/towpath/towpath/gateway"
	"github.com/towpath/towpath/gateway/pairkey"
	"github.com/towpath/towpath/gateway/state"
	"github.com/towpath/towpath/provisioning/coordinator"
	"github.com/towpath/towpath/provisioning/hub"
	"github.com/towpath/towpath/provisioning/provisioningtest"
	"github.com/towpath/towpath/provisioning/store/sqlite"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/proxy/spool"
	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/netstack"
	"github.com/towpath/towpath/tunnel/tunneltest"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// pairLab is a coordinator with its hub and two boxes, all with real WireGuard, on an internet in this process.
type pairLab struct {
	*provisioningtest.Network
	t        *testing.T
	internet *tunneltest.Network
	database string
	stopHub  func()
	boxes    map[string]*pairBox
}

// pairBox is a box whose process can end and begin again.
type pairBox struct {
	lab  *pairLab
	node *provisioningtest.Node
	dir  string
	wan  netip.Addr
	spy  *spyDevice
	g    *gateway.Gateway
	stop func()
}

// spyDevice remembers what it was configured with.
type spyDevice struct {
	*netstack.Device
	mu   sync.Mutex
	last tunnel.Config
}

func (d *spyDevice) Configure(ctx context.Context, c tunnel.Config) error {
	err := d.Device.Configure(ctx, c)
	if err == nil {
		d.mu.Lock()
		d.last = c
		d.mu.Unlock()
	}
	return err
}

// psk is the preshared key of a peer in the device.
func (d *spyDevice) psk(key wgkey.PublicKey) wgkey.PresharedKey {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range d.last.Peers {
		if p.PublicKey == key {
			return p.PresharedKey
		}
	}
	return wgkey.PresharedKey{}
}

// has reports whether the device has been configured with a peer, and not only begun to be.
func (d *spyDevice) has(key wgkey.PublicKey) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.ContainsFunc(d.last.Peers, func(p tunnel.Peer) bool { return p.PublicKey == key })
}

const (
	pairLabHub    = "198.51.100.9:51820"
	pairLabCenter = "198.51.100.1:51820"
)

func newPairLab(t *testing.T) *pairLab {
	t.Helper()
	l := &pairLab{t: t, internet: tunneltest.NewNetwork(), database: filepath.Join(t.TempDir(), "coordinator.db"), boxes: map[string]*pairBox{}}
	st, err := sqlite.Open(context.Background(), l.database, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	l.Network = provisioningtest.New(t, st, provisioningtest.Options{Init: coordinator.InitOptions{HubEndpoints: []string{pairLabHub}}})
	l.startHub()
	l.Center(t, "lab", pairLabCenter)
	l.Clinic(t, "nord")
	l.DICOM(t, "lab", "pacs", "PACS")
	l.Grant(t, "pacs", "nord")
	for name, wan := range map[string]string{"lab": "198.51.100.1", "nord": "203.0.113.5"} {
		l.boxes[name] = &pairBox{lab: l, node: l.Node(t, name), wan: netip.MustParseAddr(wan)}
	}
	for _, b := range l.boxes {
		b.enroll()
	}
	return l
}

func (l *pairLab) startHub() {
	dev, err := netstack.New(netstack.Options{Bind: l.internet.Bind(netip.MustParseAddrPort(pairLabHub).Addr())})
	if err != nil {
		l.t.Fatal(err)
	}
	h := hub.New(hub.Config{Device: dev, Stack: dev, Coordinator: l.Coordinator, Port: 51820})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx) }()
	l.stopHub = sync.OnceFunc(func() {
		cancel()
		<-ended
		_ = dev.Close()
	})
	l.t.Cleanup(l.stopHub)
	select {
	case <-h.Ready():
	case err := <-ended:
		l.t.Fatalf("the hub did not start: %v", err)
	}
}

// enroll gives the box its state, as enrolment does. The path is short because a socket is made in it.
func (b *pairBox) enroll() {
	t := b.lab.t
	var err error
	if b.dir, err = os.MkdirTemp("", "pair"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(b.dir) })
	dir, err := state.Open(b.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = dir.Close() }()
	signed, m, err := b.lab.NetMapFor(t.Context(), b.node.ID)
	if err != nil {
		t.Fatal(err)
	}
	id := state.Identity{PrivateKey: b.node.Key, NetworkKey: b.node.Network, Node: string(b.node.ID), Site: m.Self.Site}
	if err := dir.SaveEnrolled(id, signed); err != nil {
		t.Fatal(err)
	}
}

// start starts the box's process on what is in its state.
func (b *pairBox) start() {
	t := b.lab.t
	t.Helper()
	dir, err := state.Open(b.dir)
	if err != nil {
		t.Fatal(err)
	}
	id, err := dir.Identity()
	if err != nil {
		t.Fatal(err)
	}
	dev, err := netstack.New(netstack.Options{Bind: b.lab.internet.Bind(b.wan)})
	if err != nil {
		t.Fatal(err)
	}
	queue, err := spool.Open(dir.Path(state.SpoolDir), spool.Options{MinFreeBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	b.spy = &spyDevice{Device: dev}
	if b.g, err = gateway.New(gateway.Options{
		Dir: dir, Identity: id, Device: b.spy, Spool: queue, LANAddress: netip.MustParseAddr("127.0.0.1"), ListenPort: 51820, NoTransfer: true,
		Log: slog.New(slog.DiscardHandler),
	}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- b.g.Run(ctx) }()
	b.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the box ends: %v", err)
		}
		_ = dev.Close()
		_ = queue.Close()
		_ = dir.Close()
	})
	t.Cleanup(b.stop)
}

// quantum is what the box's status says of another site.
func (b *pairBox) quantum(site string) string {
	for _, p := range b.g.Status(b.lab.t.Context()).Tunnel.Peers {
		if p.Site == site {
			return p.PostQuantum
		}
	}
	return "no peer"
}

func (l *pairLab) eventually(what string, ok func() bool) time.Duration {
	l.t.Helper()
	began := time.Now()
	for time.Since(began) < 3*tunneltest.Patience {
		if ok() {
			return time.Since(began)
		}
		<-time.After(50 * time.Millisecond)
	}
	l.t.Fatalf("%s: not within %v; lab says %q, nord says %q", what, 3*tunneltest.Patience, l.boxes["lab"].quantum("nord"), l.boxes["nord"].quantum("lab"))
	return 0
}

// keys are what the two devices have for one another.
func (l *pairLab) keys() (lab, nord wgkey.PresharedKey) {
	a, b := l.boxes["lab"], l.boxes["nord"]
	return a.spy.psk(public(l.t, b.node.Key)), b.spy.psk(public(l.t, a.node.Key))
}

func public(t *testing.T, k wgkey.PrivateKey) wgkey.PublicKey {
	t.Helper()
	p, err := k.Public()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// talk opens a connection from the clinic to the center, inside the tunnel, and sends a byte there and back.
func (l *pairLab) talk(port uint16) error {
	ping, end := l.line(port)
	defer end()
	return ping()
}

// line opens a connection from the clinic to the center, inside the tunnel. Ping sends a byte there and back.
func (l *pairLab) line(port uint16) (ping func() error, end func()) {
	failed := func(err error) (func() error, func()) { return func() error { return err }, func() {} }
	_, m, err := l.NetMapFor(l.t.Context(), l.boxes["lab"].node.ID)
	if err != nil {
		return failed(err)
	}
	at := netip.AddrPortFrom(m.Self.Address, port).String()
	ctx, cancel := context.WithTimeout(l.t.Context(), tunneltest.Patience)
	defer cancel()
	ln, err := l.boxes["lab"].spy.Listen(ctx, "tcp", at)
	if err != nil {
		return failed(err)
	}
	go func() {
		if c, err := ln.Accept(); err == nil {
			_, _ = io.Copy(c, c)
			_ = c.Close()
		}
	}()
	c, err := l.boxes["nord"].spy.DialContext(ctx, "tcp", at)
	if err != nil {
		_ = ln.Close()
		return failed(err)
	}
	return func() error {
			_ = c.SetDeadline(time.Now().Add(tunneltest.Patience))
			if _, err := c.Write([]byte("x")); err != nil {
				return err
			}
			_, err := c.Read(make([]byte, 1))
			return err
		}, func() {
			_ = c.Close()
			_ = ln.Close()
		}
}

// Two boxes agree on a key through a real hub, whose database has nothing of it, and use it after a restart without the hub. A day later they
// agree on the next one, and neither their session nor a connection in it notices.
func TestPairKeysThroughTheHub(t *testing.T) {
	l := newPairLab(t)
	for _, b := range l.boxes {
		b.start()
	}
	lab, nord := public(t, l.boxes["lab"].node.Key), public(t, l.boxes["nord"].node.Key)
	l.eventually("tunnels", func() bool { return l.boxes["lab"].spy.has(nord) && l.boxes["nord"].spy.has(lab) })
	if err := l.talk(7000); err != nil {
		t.Errorf("without a key yet: %v", err)
	}
	took := l.eventually("equal keys", func() bool {
		a, b := l.keys()
		return !a.IsZero() && a.Equal(b)
	})
	t.Logf("both devices have the same key after %v", took.Round(time.Second))
	key, _ := l.keys()
	if err := l.talk(7001); err != nil {
		t.Errorf("the session did not survive the key: %v", err)
	}
	for _, b := range l.boxes {
		if hubKey := b.spy.psk(b.node.Map().Hub.PublicKey); !hubKey.IsZero() {
			t.Error("the tunnel to the hub has a key, so the next one may not come through")
		}
	}
	l.searchDatabase(key)

	for _, b := range l.boxes {
		b.stop()
		b.age()
	}
	l.stopHub()
	for _, b := range l.boxes {
		b.start()
	}
	l.eventually("equal keys again", func() bool {
		a, b := l.keys()
		return a.Equal(key) && b.Equal(key)
	})
	if err := l.talk(7002); err != nil {
		t.Fatalf("a new handshake under the key: %v", err)
	}
	l.eventually("the status", func() bool {
		return l.boxes["nord"].quantum("lab") == "yes (epoch 1)" && l.boxes["lab"].quantum("nord") == "yes (epoch 1)"
	})
	l.nextEpoch(key)
	// What comes next is made under the new key.
	l.boxes["nord"].stop()
	l.boxes["nord"].start()
	l.eventually("tunnels", func() bool { return l.boxes["nord"].spy.has(lab) })
	if err := l.talk(7004); err != nil {
		t.Fatalf("a new handshake under the next key: %v", err)
	}
	l.eventually("the status", func() bool {
		return l.boxes["nord"].quantum("lab") == "yes (epoch 2)" && l.boxes["lab"].quantum("nord") == "yes (epoch 2)"
	})
}

// nextEpoch brings the hub back, so that the boxes agree on the key after this one, while a connection between them is in use.
func (l *pairLab) nextEpoch(key wgkey.PresharedKey) {
	l.t.Helper()
	ping, end := l.line(7003)
	defer end()
	nord := l.boxes["nord"]
	before := nord.handshake(public(l.t, l.boxes["lab"].node.Key))
	l.startHub()
	rounds := 0
	took := l.eventually("the next key", func() bool {
		if err := ping(); err != nil {
			l.t.Fatalf("round %d: %v", rounds, err)
		}
		rounds++
		a, b := l.keys()
		return !a.Equal(key) && a.Equal(b) && !a.IsZero()
	})
	// For seconds, so that it is certain that the handshake which comes next is under this key.
	for range 80 {
		if err := ping(); err != nil {
			l.t.Fatalf("after the change: %v", err)
		}
		<-time.After(50 * time.Millisecond)
	}
	if after := nord.handshake(public(l.t, l.boxes["lab"].node.Key)); !after.Equal(before) {
		l.t.Errorf("there was another handshake at %v after %v, so nothing is shown of the session", after, before)
	}
	if got := nord.quantum("lab"); got != "from the next handshake on (epoch 2)" {
		l.t.Errorf("the status says %q", got)
	}
	l.t.Logf("the next key after %v, and %d packets there and back meanwhile", took.Round(time.Second), rounds)
}

// age makes the keys that a box has saved a day older.
func (b *pairBox) age() {
	t := b.lab.t
	t.Helper()
	dir, err := state.Open(b.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = dir.Close() }()
	store, err := dir.Pairs()
	if err != nil {
		t.Fatal(err)
	}
	all, err := store.Load()
	if err != nil || len(all) != 1 {
		t.Fatalf("%d pairs are saved (%v)", len(all), err)
	}
	for node, data := range all {
		saved, err := pairkey.ParseSaved(data)
		if err != nil {
			t.Fatal(err)
		}
		saved.Current.Made = saved.Current.Made.Add(-pairkey.RenewAfter)
		if data, err = saved.Reveal(); err != nil {
			t.Fatal(err)
		}
		if err := store.Save(node, data); err != nil {
			t.Fatal(err)
		}
	}
}

// handshake is when the box had its last one with a peer.
func (b *pairBox) handshake(peer wgkey.PublicKey) time.Time {
	st, err := b.spy.Status(b.lab.t.Context())
	if err != nil {
		b.lab.t.Fatal(err)
	}
	for _, p := range st.Peers {
		if p.PublicKey == peer {
			return p.LastHandshake
		}
	}
	return time.Time{}
}

// searchDatabase looks for the key and for private keys in all that the coordinator has on its disk.
func (l *pairLab) searchDatabase(key wgkey.PresharedKey) {
	l.t.Helper()
	files, err := filepath.Glob(l.database + "*")
	if err != nil || len(files) == 0 {
		l.t.Fatalf("%v (%v)", files, err)
	}
	secret := key.RevealBytes()
	found := false
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			l.t.Fatal(err)
		}
		for name, form := range map[string][]byte{
			"raw": secret[:], "hexadecimal": []byte(key.RevealHex()), "base64": []byte(strings.TrimRight(base64.StdEncoding.EncodeToString(secret[:]), "=")[:40]),
		} {
			if bytes.Contains(b, form) {
				l.t.Errorf("%s has the preshared key, %s", filepath.Base(f), name)
			}
		}
		found = found || bytes.Contains(b, []byte(`"kind":"key"`))
	}
	if !found {
		l.t.Error("the messages did not go through the database, so that there is nothing of the key in it proves nothing")
	}
}

// A box whose software knows nothing of keys keeps its tunnel, and the other one says why there is none.
func TestPairKeysWithAnOldBox(t *testing.T) {
	l := newPairLab(t)
	lab, nord := l.boxes["lab"], l.boxes["nord"]
	young, old := lab, nord
	if string(lab.node.ID) < string(nord.node.ID) {
		young, old = nord, lab // so that the younger one speaks first
	}
	young.start()
	dev, err := netstack.New(netstack.Options{Bind: l.internet.Bind(old.wan)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = dev.Close() }()
	old.spy = &spyDevice{Device: dev}
	m, peer := old.node.Map(), young.node.Map().Self
	conf := tunnel.Config{
		PrivateKey: old.node.Key, ListenPort: 51820, Addresses: []netip.Prefix{netip.PrefixFrom(m.Self.Address, 32)},
		Peers: []tunnel.Peer{{PublicKey: peer.PublicKey, AllowedIPs: []netip.Prefix{netip.PrefixFrom(peer.Address, 32)}}},
	}
	if young == lab {
		conf.Peers[0].Endpoint = netip.MustParseAddrPort(pairLabCenter)
	}
	if err := old.spy.Configure(t.Context(), conf); err != nil {
		t.Fatal(err)
	}
	site := map[*pairBox]string{lab: "lab", nord: "nord"}[old]
	l.eventually("the reason", func() bool { return young.quantum(site) == "no: the box there is too old" })
	if err := l.talk(7003); err != nil {
		t.Errorf("an old box: %v", err)
	}
}

// The policy is set by a command, and reaches the box's map.
func TestPairKeysCommand(t *testing.T) {
	l := newPeerLab(t)
	for policy, want := range map[string]wire.PairKeys{"required": wire.PairKeysRequired, "off": wire.PairKeysOff, "preferred": wire.PairKeysPreferred} {
		l.run("coordinator", "pair-keys", policy)
		if _, m, err := l.NetMapFor(t.Context(), l.node.ID); err != nil || m.Self.PairKeys != want {
			t.Errorf("%s: the map says %q (%v)", policy, m.Self.PairKeys, err)
		}
	}
	if out, err := l.try("coordinator", "pair-keys", "perhaps"); err == nil {
		t.Errorf("an unknown policy is taken: %s", out)
	}
}
