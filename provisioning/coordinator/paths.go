package coordinator

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// pathsFor is how long a Node's own addresses are passed on after it told them. It asks again before, at the latest after five minutes.
const pathsFor = 12 * time.Minute

// paths is what Nodes told about where they are. It is in memory only: after a restart they tell it again.
type paths struct {
	mu sync.Mutex
	// seen says where the hub's device sees the holders of keys; nil before there is a hub.
	seen  func(context.Context, []wgkey.PublicKey) map[wgkey.PublicKey]netip.AddrPort
	local map[provisioning.NodeID]toldPaths
	swept time.Time
}

type toldPaths struct {
	addresses []netip.AddrPort
	mapped    netip.AddrPort
	at        time.Time
}

// SetSeen tells how to find out where the holders of keys are, as the hub's device sees them. Those of whom nothing is known are left out.
func (c *Coordinator) SetSeen(of func(context.Context, []wgkey.PublicKey) map[wgkey.PublicKey]netip.AddrPort) {
	c.paths.mu.Lock()
	defer c.paths.mu.Unlock()
	c.paths.seen = of
}

// tell notes the addresses of a Node.
func (p *paths) tell(id provisioning.NodeID, q wire.PathsQuestion, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.local == nil {
		p.local = map[provisioning.NodeID]toldPaths{}
	}
	if now.Sub(p.swept) > pathsFor {
		p.swept = now
		for id, t := range p.local {
			if now.Sub(t.at) > pathsFor {
				delete(p.local, id)
			}
		}
	}
	p.local[id] = toldPaths{slices.Clone(q.Local), q.Mapped, now}
}

func (p *paths) told(id provisioning.NodeID, now time.Time) toldPaths {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.local[id]
	if now.Sub(t.at) > pathsFor {
		return toldPaths{}
	}
	return t
}

// Paths answers where the relayed Peers of a Node may be reached directly: those of its NetMap, and nobody else.
func (c *Coordinator) Paths(ctx context.Context, id provisioning.NodeID, q wire.PathsQuestion) (wire.PathsAnswer, error) {
	if len(q.Local) > wire.MaxLocalPaths {
		return wire.PathsAnswer{}, provisioning.Errorf(provisioning.Invalid, "%d addresses are too many", len(q.Local)).WithHint("update the box")
	}
	x, err := c.early(ctx)
	if err != nil {
		return wire.PathsAnswer{}, err
	}
	m, _, err := c.compile(c.ready(x, id), id)
	if err != nil {
		return wire.PathsAnswer{}, err
	}
	now := time.Now()
	c.paths.tell(id, q, now)
	relayed := slices.DeleteFunc(slices.Clone(m.Peers), func(p wire.Peer) bool { return len(p.Relays) == 0 || p.Kind == wire.Unmanaged })
	relayed = relayed[:min(len(relayed), wire.MaxPathPeers)]
	c.paths.mu.Lock()
	seen := c.paths.seen
	c.paths.mu.Unlock()
	if seen == nil || len(relayed) == 0 {
		return wire.PathsAnswer{}, nil
	}
	keys := []wgkey.PublicKey{m.Self.PublicKey}
	for _, p := range relayed {
		keys = append(keys, p.PublicKey)
	}
	at := seen(ctx, keys)
	out := wire.PathsAnswer{Seen: at[m.Self.PublicKey]}
	for _, p := range relayed {
		found := wire.PeerPaths{PublicKey: p.PublicKey, Seen: at[p.PublicKey]}
		told := c.paths.told(provisioning.NodeID(p.Node), now)
		if found.Seen.IsValid() && found.Seen.Addr() == out.Seen.Addr() {
			found.Local = told.addresses
		}
		// At another address it could be anybody's: a box may not have others send probes to a stranger.
		if found.Seen.IsValid() && told.mapped.Addr() == found.Seen.Addr() && told.mapped.Port() != 0 {
			found.Mapped = told.mapped
		}
		if found.Seen.IsValid() {
			out.Peers = append(out.Peers, found)
		}
	}
	return out, nil
}
