package wgo

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"

	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/internal/reach"
	"github.com/towpath/towpath/tunnel/steer"
	"github.com/towpath/towpath/tunnel/uapi"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// Device is a running wireguard-go device. Its methods are safe for concurrent use.
type Device struct {
	dev *device.Device
	// steer is the device's Bind if that can steer, else nil.
	steer *steer.Bind

	mu sync.Mutex
	// endpoints are those configured last: the device itself only knows where peers have roamed to.
	endpoints map[wgkey.PublicKey]netip.AddrPort
}

// New starts the workers of a device on t. It opens no socket before the first Apply. The mark is set on every outer packet; 0 sets
// none. It owns t and bind from now on.
func New(t tun.Device, bind conn.Bind, mark uint32, log *slog.Logger) (*Device, error) {
	boundedTun, boundedBind := bound(t, bind)
	d := &Device{dev: device.NewDevice(boundedTun, boundedBind, Logger(log)), endpoints: map[wgkey.PublicKey]netip.AddrPort{}}
	if b, ok := bind.(*steer.Bind); ok {
		d.steer = b
		steer.Prepare(d.dev)
	}
	if err := d.dev.BindSetMark(mark); err != nil {
		d.dev.Close()
		return nil, fmt.Errorf("mark the outer packets: %w", err)
	}
	return d, nil
}

// Apply makes the device match c, which must be valid. What it finds is what the device reports, so that a change by another hand or a
// half-applied Config is put right by the next one.
func (d *Device) Apply(c tunnel.Config) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	old, err := d.observe()
	if err != nil {
		return err
	}
	if c, err = d.steered(c); err != nil {
		return err
	}
	change := diff(old, c)
	if change.ListenPort != nil {
		if err := d.listen(old.ListenPort, *change.ListenPort); err != nil {
			return err
		}
		change.ListenPort = nil
	}
	if text := d.render(change); len(text) > 0 {
		err := d.dev.IpcSetOperation(bytes.NewReader(text))
		clear(text)
		if err != nil {
			return fmt.Errorf("configure WireGuard: %w", err)
		}
	}
	clear(d.endpoints)
	for _, p := range c.Peers {
		if p.Endpoint.IsValid() {
			d.endpoints[p.PublicKey] = p.Endpoint
		}
	}
	if err := d.dev.Up(); err != nil {
		return reach.PortError(c.ListenPort, err)
	}
	return nil
}

// listen moves the device to another port. On failure it goes back, because wireguard-go is left without any socket.
func (d *Device) listen(old, next uint16) error {
	err := d.dev.IpcSet(fmt.Sprintf("listen_port=%d\n", next))
	if err == nil {
		return nil
	}
	err = reach.PortError(next, err)
	if old != 0 {
		if back := d.dev.IpcSet(fmt.Sprintf("listen_port=%d\n", old)); back != nil {
			err = errors.Join(err, reach.PortError(old, back))
		}
	}
	return err
}

// observe returns what the device says as a Config, with the endpoints that were configured instead of those in use.
func (d *Device) observe() (tunnel.Config, error) {
	s, err := d.get()
	if err != nil {
		return tunnel.Config{}, err
	}
	c := tunnel.Config{PrivateKey: s.PrivateKey, ListenPort: s.ListenPort, Peers: make([]tunnel.Peer, len(s.Peers))}
	for i, p := range s.Peers {
		c.Peers[i] = tunnel.Peer{
			PublicKey:           p.PublicKey,
			PresharedKey:        p.PresharedKey,
			Endpoint:            d.endpoints[p.PublicKey],
			AllowedIPs:          p.AllowedIPs,
			PersistentKeepalive: p.PersistentKeepalive,
		}
	}
	return c, nil
}

func (d *Device) get() (uapi.Device, error) {
	var text bytes.Buffer
	return d.read(&text, &text)
}

// read has the device write its state to w, which leaves in text what is of interest.
func (d *Device) read(w io.Writer, text *bytes.Buffer) (uapi.Device, error) {
	if d.Dead() {
		return uapi.Device{}, fmt.Errorf("WireGuard device: %w", net.ErrClosed)
	}
	if err := d.dev.IpcGetOperation(w); err != nil {
		return uapi.Device{}, fmt.Errorf("read the state of WireGuard: %w", err)
	}
	defer clear(text.Bytes())
	return uapi.Parse(text)
}

// Status reports the device; the caller fills in Backend.
func (d *Device) Status() (tunnel.Status, error) {
	s, err := d.get()
	if err != nil {
		return tunnel.Status{}, err
	}
	return report(s)
}

// StatusOf is Status for a few peers only, at less than half the cost when there are thousands. Peers that are not there are left out.
func (d *Device) StatusOf(keys []wgkey.PublicKey) (tunnel.Status, error) {
	f := filter{keys: make(map[string]bool, len(keys)), pass: true}
	for _, k := range keys {
		f.keys[k.Hex()] = true
	}
	s, err := d.read(&f, &f.text)
	if err != nil {
		return tunnel.Status{}, err
	}
	return report(s)
}

// filter lets the device itself and some of its peers through.
type filter struct {
	keys map[string]bool // in hexadecimal
	pass bool            // the peer that is being written
	text bytes.Buffer
}

// Write expects whole lines.
func (f *filter) Write(text []byte) (int, error) {
	for line := range bytes.Lines(text) {
		if key, ok := bytes.CutPrefix(line, []byte("public_key=")); ok {
			f.pass = f.keys[string(bytes.TrimSuffix(key, []byte("\n")))]
		}
		if f.pass {
			f.text.Write(line)
		}
	}
	return len(text), nil
}

func report(s uapi.Device) (st tunnel.Status, err error) {
	st = tunnel.Status{ListenPort: s.ListenPort, Peers: make([]tunnel.PeerStatus, len(s.Peers))}
	if !s.PrivateKey.IsZero() {
		if st.PublicKey, err = s.PrivateKey.Public(); err != nil {
			return tunnel.Status{}, err
		}
	}
	for i, p := range s.Peers {
		st.Peers[i] = p.PeerStatus
	}
	return st, nil
}

// Dead reports whether the device has ended by itself, because its TUN device did.
func (d *Device) Dead() bool {
	select {
	case <-d.dev.Wait():
		return true
	default:
		return false
	}
}

// Serve answers one connection of the configuration protocol, as wg(8) opens it, and closes it.
func (d *Device) Serve(c net.Conn) { d.dev.IpcHandle(c) }

// Close ends all sessions and closes the TUN device and the bind. It is idempotent and returns when all workers have ended.
func (d *Device) Close() {
	d.dev.Close()
	if d.steer != nil {
		_ = d.steer.Configure(steer.Config{}) // without peers nothing of it can fail
	}
}
