package hub

import (
	"context"
	"maps"
	"time"

	"github.com/towpath/towpath/tunnel/carrier"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// tendCarriedEvery is how often the device is asked who is carried, while anybody is.
const tendCarriedEvery = 2 * time.Second

// tendCarried has the relay admit those who are carried to all whom they may meet, until ctx ends. Without any it costs nothing.
func (h *Hub) tendCarried(ctx context.Context) error {
	if h.c.Carried == nil || h.c.Relay == nil {
		return nil
	}
	tick := time.NewTicker(tendCarriedEvery)
	defer tick.Stop()
	known := map[wgkey.PublicKey]bool{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now, err := h.carried(ctx)
		if err == nil && !maps.Equal(now, known) {
			if err = h.admitCarried(ctx, now); err == nil {
				known = now
			}
		}
		if err != nil && ctx.Err() == nil {
			h.log.Error("cannot see who is carried over TCP", "error", err)
		}
	}
}

// carried are the keys of those whose session is carried.
func (h *Hub) carried(ctx context.Context) (map[wgkey.PublicKey]bool, error) {
	keys := map[wgkey.PublicKey]bool{}
	if h.c.Carried() == 0 {
		return keys, nil
	}
	status, err := h.c.Device.Status(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range status.Peers {
		if carrier.IsAddress(p.Endpoint.Addr()) && !p.LastHandshake.IsZero() {
			keys[p.PublicKey] = true
		}
	}
	return keys, nil
}

func (h *Hub) admitCarried(ctx context.Context, keys map[wgkey.PublicKey]bool) error {
	t, err := h.c.Coordinator.SetCarried(ctx, keys)
	if err != nil {
		return err
	}
	h.admit(t)
	return nil
}
