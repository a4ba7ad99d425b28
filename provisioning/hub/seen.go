package hub

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/towpath/towpath/tunnel/carrier"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// sightingsFor is how old an answer to where nodes are may be: with thousands, to ask the device costs tens of milliseconds.
const sightingsFor = 3 * time.Second

type sightings struct {
	mu  sync.Mutex
	all map[wgkey.PublicKey]netip.AddrPort
	at  time.Time
}

// seen is where the device sees the holders of keys, up to sightingsFor ago. Those that are carried over TCP are left out.
func (h *Hub) seen(ctx context.Context, keys []wgkey.PublicKey) map[wgkey.PublicKey]netip.AddrPort {
	h.sightings.mu.Lock()
	defer h.sightings.mu.Unlock()
	if now := time.Now(); h.sightings.all == nil || now.Sub(h.sightings.at) > sightingsFor {
		status, err := h.c.Device.Status(ctx)
		if err != nil {
			return nil
		}
		all := make(map[wgkey.PublicKey]netip.AddrPort, len(status.Peers))
		for _, p := range status.Peers {
			if p.Endpoint.IsValid() && !p.LastHandshake.IsZero() && !carrier.IsAddress(p.Endpoint.Addr()) {
				all[p.PublicKey] = p.Endpoint
			}
		}
		h.sightings.all, h.sightings.at = all, now
	}
	out := make(map[wgkey.PublicKey]netip.AddrPort, len(keys))
	for _, k := range keys {
		if a, ok := h.sightings.all[k]; ok {
			out[k] = a
		}
	}
	return out
}
