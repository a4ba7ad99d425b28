package hub

import (
	"context"
	"maps"
	"net/netip"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/carrier"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// tendKeysEvery is how often the coordinator and the device are asked while a Node changes its key.
const tendKeysEvery = time.Second

// expect notes who changes a key.
func (h *Hub) expect(nodes []provisioning.Node) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.changing = map[wgkey.PublicKey]provisioning.NodeID{}
	for _, n := range nodes {
		switch n.Rotate {
		case wire.RotateWait:
			h.changing[n.PublicKey] = "" // the device has nothing to tell of it yet
		case wire.RotateTurn:
			h.changing[n.NextKey] = n.ID
		case wire.RotateMake:
		}
	}
	if len(h.changing) > 0 {
		select {
		case h.changed <- struct{}{}:
		default:
		}
	}
}

func (h *Hub) expected() map[wgkey.PublicKey]provisioning.NodeID {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.changing)
}

// tendKeys drives the changes of keys, until ctx ends. Without one it costs nothing.
func (h *Hub) tendKeys(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-h.changed:
		}
		for len(h.expected()) > 0 {
			if err := h.c.Coordinator.TendRotations(ctx); err != nil && ctx.Err() == nil {
				h.log.Error("cannot tend the changes of keys", "error", err)
			}
			h.noticeKeys(ctx)
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(tendKeysEvery):
			}
		}
	}
}

// noticeKeys tells the coordinator of every Node that has called with its next key.
func (h *Hub) noticeKeys(ctx context.Context) {
	turning := h.expected()
	maps.DeleteFunc(turning, func(_ wgkey.PublicKey, id provisioning.NodeID) bool { return id == "" })
	if len(turning) == 0 {
		return
	}
	status, err := h.c.Device.Status(ctx)
	if err != nil {
		if ctx.Err() == nil {
			h.log.Error("cannot see who calls with a new key", "error", err)
		}
		return
	}
	for _, p := range status.Peers {
		id := turning[p.PublicKey]
		if id == "" || p.LastHandshake.IsZero() {
			continue
		}
		if err := h.c.Coordinator.Turned(ctx, id, p.PublicKey); err != nil {
			h.log.Error("cannot end the change of a key", "node", id, "error", err)
			continue
		}
		h.log.Info("a node has changed its key", "node", id)
		h.mu.Lock()
		delete(h.changing, p.PublicKey)
		h.mu.Unlock()
	}
}

// endpoint is where the device sees the holder of a key; zero for one that is carried over TCP.
func (h *Hub) endpoint(ctx context.Context, key wgkey.PublicKey) netip.AddrPort {
	status, err := h.c.Device.Status(ctx)
	if err != nil || key.IsZero() {
		return netip.AddrPort{}
	}
	for _, p := range status.Peers {
		if p.PublicKey == key && !carrier.IsAddress(p.Endpoint.Addr()) {
			return p.Endpoint
		}
	}
	return netip.AddrPort{}
}
