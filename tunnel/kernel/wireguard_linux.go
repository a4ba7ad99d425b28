package kernel

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/internal/reach"
	"github.com/towpath/towpath/tunnel/wgkey"
)

type endpoints map[wgkey.PublicKey]netip.AddrPort

// apply makes keys, port and peers match c. What it starts from is what the kernel reports, so that a change by another hand or a
// half-applied Config is put right by the next one.
func (d *Device) apply(c tunnel.Config) error {
	control := d.control.Load()
	dev, err := control.Device(d.name)
	if err != nil {
		return readError(d.name, err)
	}
	old, err := observe(dev, d.endpoints)
	if err != nil {
		return err
	}
	change := tunnel.Diff(old, c)
	calls, err := render(change)
	if err != nil {
		return err
	}
	if mark := int(d.mark); dev.FirewallMark != mark {
		calls = append([]wgtypes.Config{{FirewallMark: &mark}}, calls...)
	}
	for _, call := range calls {
		if err := control.ConfigureDevice(d.name, call); err != nil {
			if call.ListenPort != nil {
				return reach.PortError(c.ListenPort, err)
			}
			return fmt.Errorf("configure WireGuard in the kernel: %w", err)
		}
	}
	d.endpoints = endpoints{}
	for _, p := range c.Peers {
		if p.Endpoint.IsValid() {
			d.endpoints[p.PublicKey] = p.Endpoint
		}
	}
	return nil
}

func readError(name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the WireGuard interface %s is gone: another program removed it; it comes back with the next configuration: %w", name, err)
	}
	return fmt.Errorf("read the state of WireGuard in the kernel: %w", err)
}

// render turns a Change into calls, to be made in their order. What is taken away goes first.
//
// A peer is in no call twice: where wgctrl splits a large call, it keeps no more than the allowed IPs of the second mention.
//
// Until Linux 6.16 the kernel cannot take a single prefix from a peer: it can only replace all, and in between the peer has none and loses
// packets of those that stay. But a prefix that is given to one peer leaves another at once. So those that go are given to a peer that
// nobody can be, for its key is random and has no endpoint, and that peer is then removed.
func render(c tunnel.Change) ([]wgtypes.Config, error) {
	var first, park, unpark, update wgtypes.Config
	if c.PrivateKey != nil {
		k := wgtypes.Key(c.PrivateKey.RevealBytes())
		first.PrivateKey = &k
	}
	for _, k := range c.Removed {
		first.Peers = append(first.Peers, wgtypes.PeerConfig{PublicKey: wgtypes.Key(k), Remove: true})
	}
	var going []net.IPNet
	for _, u := range c.Updated {
		going = append(going, ipNets(u.RemovedIPs)...)
		if p, changed := updated(u); changed {
			update.Peers = append(update.Peers, p)
		}
	}
	if len(going) > 0 {
		nobody, err := wgtypes.GenerateKey()
		if err != nil {
			return nil, fmt.Errorf("make a key: %w", err)
		}
		park.Peers = []wgtypes.PeerConfig{{PublicKey: nobody, AllowedIPs: going}}
		unpark.Peers = []wgtypes.PeerConfig{{PublicKey: nobody, Remove: true}}
	}
	for _, p := range c.Added {
		update.Peers = append(update.Peers, added(p))
	}
	calls := make([]wgtypes.Config, 0, 5)
	for _, call := range []wgtypes.Config{first, park, unpark, update} {
		if call.PrivateKey != nil || len(call.Peers) > 0 {
			calls = append(calls, call)
		}
	}
	if c.ListenPort != nil { // the only one that another program can make fail, so all else is done by then
		port := int(*c.ListenPort)
		calls = append(calls, wgtypes.Config{ListenPort: &port})
	}
	return calls, nil
}

// updated never brings back a peer that another hand removed meanwhile.
func updated(u tunnel.PeerChange) (p wgtypes.PeerConfig, changed bool) {
	p = wgtypes.PeerConfig{
		PublicKey: wgtypes.Key(u.PublicKey), UpdateOnly: true, PersistentKeepaliveInterval: u.PersistentKeepalive, AllowedIPs: ipNets(u.AddedIPs),
	}
	if u.PresharedKey != nil {
		k := wgtypes.Key(u.PresharedKey.RevealBytes()) // all zeros: none
		p.PresharedKey = &k
	}
	if u.Endpoint != nil {
		p.Endpoint = net.UDPAddrFromAddrPort(*u.Endpoint)
	}
	return p, p.PresharedKey != nil || p.Endpoint != nil || p.PersistentKeepaliveInterval != nil || len(p.AllowedIPs) > 0
}

func added(n tunnel.Peer) wgtypes.PeerConfig {
	p := wgtypes.PeerConfig{PublicKey: wgtypes.Key(n.PublicKey), ReplaceAllowedIPs: true, AllowedIPs: ipNets(n.AllowedIPs)}
	if !n.PresharedKey.IsZero() {
		k := wgtypes.Key(n.PresharedKey.RevealBytes())
		p.PresharedKey = &k
	}
	if n.Endpoint.IsValid() {
		p.Endpoint = net.UDPAddrFromAddrPort(n.Endpoint)
	}
	if n.PersistentKeepalive != 0 {
		p.PersistentKeepaliveInterval = &n.PersistentKeepalive
	}
	return p
}

// observe returns what the kernel says as a Config, with the endpoints that were configured instead of those in use.
func observe(dev *wgtypes.Device, configured endpoints) (tunnel.Config, error) {
	c := tunnel.Config{ListenPort: uint16(dev.ListenPort), Peers: make([]tunnel.Peer, len(dev.Peers))}
	var err error
	if dev.PrivateKey != (wgtypes.Key{}) {
		if c.PrivateKey, err = wgkey.ParsePrivateKeyHex(hex.EncodeToString(dev.PrivateKey[:])); err != nil {
			return c, fmt.Errorf("read the private key from the kernel: %w", err)
		}
	}
	for i, p := range dev.Peers {
		key := wgkey.PublicKey(p.PublicKey)
		c.Peers[i] = tunnel.Peer{
			PublicKey: key, Endpoint: configured[key], AllowedIPs: prefixes(p.AllowedIPs), PersistentKeepalive: p.PersistentKeepaliveInterval,
		}
		if p.PresharedKey == (wgtypes.Key{}) {
			continue
		}
		if c.Peers[i].PresharedKey, err = wgkey.ParsePresharedKeyHex(hex.EncodeToString(p.PresharedKey[:])); err != nil {
			return c, fmt.Errorf("read a preshared key from the kernel: %w", err)
		}
	}
	return c, nil
}

// report fills in what the kernel says.
func report(s *tunnel.Status, dev *wgtypes.Device) {
	s.ListenPort = uint16(dev.ListenPort)
	if dev.PrivateKey != (wgtypes.Key{}) {
		s.PublicKey = wgkey.PublicKey(dev.PublicKey)
	}
	s.Peers = make([]tunnel.PeerStatus, len(dev.Peers))
	for i, p := range dev.Peers {
		s.Peers[i] = tunnel.PeerStatus{
			PublicKey: wgkey.PublicKey(p.PublicKey), LastHandshake: p.LastHandshakeTime, AllowedIPs: prefixes(p.AllowedIPs),
			RxBytes: uint64(max(p.ReceiveBytes, 0)), TxBytes: uint64(max(p.TransmitBytes, 0)),
		}
		if p.LastHandshakeTime.Unix() <= 0 {
			s.Peers[i].LastHandshake = time.Time{}
		}
		if p.Endpoint != nil {
			a := p.Endpoint.AddrPort()
			s.Peers[i].Endpoint = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
		}
	}
}

func ipNets(ps []netip.Prefix) []net.IPNet {
	list := make([]net.IPNet, len(ps))
	for i, p := range ps {
		list[i] = net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
	}
	return list
}

func prefixes(list []net.IPNet) []netip.Prefix {
	ps := make([]netip.Prefix, 0, len(list))
	for _, n := range list {
		a, ok := netip.AddrFromSlice(n.IP)
		ones, bits := n.Mask.Size()
		if a = a.Unmap(); ok && bits == a.BitLen() {
			ps = append(ps, netip.PrefixFrom(a, ones))
		}
	}
	return ps
}
