package uapi

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// ErrMalformed is wrapped by every error of Parse that is not the reader's.
var ErrMalformed = errors.New("malformed answer of the WireGuard device")

// maxLine is the longest line Parse accepts, in bytes. The longest real one is a key of 64 digits with its name.
const maxLine = 1024

// Device is the answer to a "get" operation.
type Device struct {
	PrivateKey wgkey.PrivateKey
	ListenPort uint16
	Fwmark     uint32
	Peers      []Peer // sorted by public key
}

// Peer is one peer of the answer.
type Peer struct {
	tunnel.PeerStatus
	PresharedKey        wgkey.PresharedKey
	PersistentKeepalive time.Duration
}

// Parse reads the answer to a "get" operation up to its end or its first empty line. Keys it does not know are skipped, as the
// protocol asks; a device that reports an errno other than 0 is an error. Errors never contain values, because they may be secret.
func Parse(r io.Reader) (Device, error) {
	var d Device
	s := bufio.NewScanner(r)
	s.Buffer(nil, maxLine)
	seen := map[wgkey.PublicKey]bool{}
	for n := 1; s.Scan() && s.Text() != ""; n++ {
		key, value, ok := strings.Cut(s.Text(), "=")
		if !ok {
			return Device{}, fmt.Errorf("%w: line %d has no =", ErrMalformed, n)
		}
		var err error
		if key == "public_key" {
			var k wgkey.PublicKey
			if k, err = wgkey.ParsePublicKeyHex(value); err == nil && seen[k] {
				err = errors.New("this peer was there before")
			}
			seen[k] = true
			if len(d.Peers) >= tunnel.MaxPeers {
				err = errors.New("too many peers")
			}
			d.Peers = append(d.Peers, Peer{PeerStatus: tunnel.PeerStatus{PublicKey: k}})
		} else if len(d.Peers) == 0 || key == "errno" {
			err = d.set(key, value)
		} else {
			err = d.Peers[len(d.Peers)-1].set(key, value)
		}
		if err != nil {
			return Device{}, fmt.Errorf("%w: line %d: %w", ErrMalformed, n, err)
		}
	}
	if err := s.Err(); err != nil {
		return Device{}, fmt.Errorf("read the answer of the WireGuard device: %w", err)
	}
	slices.SortFunc(d.Peers, func(a, b Peer) int { return bytes.Compare(a.PublicKey[:], b.PublicKey[:]) })
	for i := range d.Peers {
		slices.SortFunc(d.Peers[i].AllowedIPs, netip.Prefix.Compare)
	}
	return d, nil
}

func (d *Device) set(key, value string) (err error) {
	var n uint64
	switch key {
	case "private_key":
		d.PrivateKey, err = wgkey.ParsePrivateKeyHex(value)
	case "listen_port":
		n, err = number(value, 16)
		d.ListenPort = uint16(n)
	case "fwmark":
		n, err = number(value, 32)
		d.Fwmark = uint32(n)
	case "errno":
		if value != "0" {
			err = errors.New("the device reports an error")
		}
	}
	return err
}

func (p *Peer) set(key, value string) (err error) {
	var n uint64
	switch key {
	case "preshared_key":
		p.PresharedKey, err = wgkey.ParsePresharedKeyHex(value)
	case "endpoint":
		p.Endpoint, err = endpoint(value)
	case "last_handshake_time_sec":
		if n, err = number(value, 63); err == nil && n > 0 {
			p.LastHandshake = time.Unix(int64(n), 0)
		}
	case "last_handshake_time_nsec":
		if n, err = number(value, 30); err == nil && !p.LastHandshake.IsZero() {
			p.LastHandshake = time.Unix(p.LastHandshake.Unix(), int64(n))
		}
	case "tx_bytes":
		p.TxBytes, err = number(value, 64)
	case "rx_bytes":
		p.RxBytes, err = number(value, 64)
	case "persistent_keepalive_interval":
		n, err = number(value, 16)
		p.PersistentKeepalive = time.Duration(n) * time.Second
	case "allowed_ip":
		var a netip.Prefix
		a, err = prefix(value)
		p.AllowedIPs = append(p.AllowedIPs, a)
	}
	return err
}

// These keep the input out of the errors of strconv and netip, which quote it.

func number(value string, bits int) (uint64, error) {
	n, err := strconv.ParseUint(value, 0, bits)
	if err != nil {
		return 0, fmt.Errorf("want a number of %d bits", bits)
	}
	return n, nil
}

func endpoint(value string) (netip.AddrPort, error) {
	a, err := netip.ParseAddrPort(value)
	if err != nil {
		return a, errors.New("want an address and a port")
	}
	return a, nil
}

func prefix(value string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(value)
	if err != nil {
		return p, errors.New("want an address prefix")
	}
	return p.Masked(), nil
}
