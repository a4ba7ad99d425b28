package uapi

import (
	"bytes"
	"fmt"
	"net/netip"
	"time"

	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// Render writes a Change as the body of a "set" operation. An empty result means there is nothing to do.
//
// The order keeps every intermediate state at or below what the old and the new configuration allow together: peers go first, then
// every prefix that leaves a peer, then what is added. Existing peers are written with update_only, so that a peer which vanished
// meanwhile is never brought back, and prefixes that stay are not touched, so that no packet of theirs is lost.
func Render(c tunnel.Change) []byte {
	var w writer
	if c.PrivateKey != nil {
		w.line("private_key", c.PrivateKey.RevealHex())
	}
	if c.ListenPort != nil {
		w.line("listen_port", *c.ListenPort)
	}
	for _, k := range c.Removed {
		w.line("public_key", k.Hex())
		w.line("remove", true)
	}
	for _, u := range c.Updated {
		if len(u.RemovedIPs) > 0 {
			w.existing(u.PublicKey)
			for _, p := range u.RemovedIPs {
				w.line("allowed_ip", "-"+p.String())
			}
		}
	}
	for _, u := range c.Updated {
		if u.PresharedKey == nil && u.Endpoint == nil && u.PersistentKeepalive == nil && len(u.AddedIPs) == 0 {
			continue
		}
		w.existing(u.PublicKey)
		if u.PresharedKey != nil {
			w.line("preshared_key", u.PresharedKey.RevealHex())
		}
		if u.Endpoint != nil {
			w.line("endpoint", *u.Endpoint)
		}
		if u.PersistentKeepalive != nil {
			w.keepalive(*u.PersistentKeepalive)
		}
		w.add(u.AddedIPs)
	}
	for _, p := range c.Added {
		w.line("public_key", p.PublicKey.Hex())
		if !p.PresharedKey.IsZero() {
			w.line("preshared_key", p.PresharedKey.RevealHex())
		}
		if p.Endpoint.IsValid() {
			w.line("endpoint", p.Endpoint)
		}
		w.line("replace_allowed_ips", true)
		w.add(p.AllowedIPs)
		// Last, because turning it on sends a packet at once and the endpoint must be known by then.
		if p.PersistentKeepalive != 0 {
			w.keepalive(p.PersistentKeepalive)
		}
	}
	return w.Bytes()
}

type writer struct{ bytes.Buffer }

func (w *writer) line(key string, value any) { fmt.Fprintf(w, "%s=%v\n", key, value) }

func (w *writer) existing(k wgkey.PublicKey) {
	w.line("public_key", k.Hex())
	w.line("update_only", true)
}

func (w *writer) keepalive(d time.Duration) {
	w.line("persistent_keepalive_interval", int(tunnel.WholeSeconds(d)/time.Second))
}

func (w *writer) add(ps []netip.Prefix) {
	for _, p := range ps {
		w.line("allowed_ip", p)
	}
}
