package gateway

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/towpath/towpath/gateway/control"
	"github.com/towpath/towpath/gateway/localapi"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/path"
	"github.com/towpath/towpath/tunnel/steer"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// How often own addresses are looked at, and where relayed peers are is asked: first after askPathsSoon, then after twice as long each time, up to
// askPathsEvery. A new plan, an own address that changed and a direct way that was lost begin that anew.
const (
	addressesEvery = 2 * time.Second
	askPathsSoon   = 10 * time.Second
	askPathsEvery  = 5 * time.Minute
)

// pathLoop looks for direct ways to relayed peers: it tells the steering Bind where they may be, and when an own address has changed.
func (g *Gateway) pathLoop(ctx context.Context) error {
	if g.opt.Steer == nil {
		return nil
	}
	tick := time.NewTicker(addressesEvery)
	defer tick.Stop()
	var had []netip.Addr
	var mapped netip.AddrPort
	var asked time.Time
	var generation uint64
	var direct int
	every := askPathsSoon
	for first := true; ; first = false {
		now := g.ownAddresses()
		moved := !first && !slices.Equal(had, now)
		if moved {
			g.opt.Steer.Moved()
			if g.portmap != nil {
				g.portmap.Moved()
			}
		}
		g.mu.Lock()
		connected, m := g.link.Connected, g.plan
		g.mu.Unlock()
		reached := g.direct(m)
		switch {
		case moved || m.Generation != generation || mapped != g.mapped():
			asked, every = time.Time{}, askPathsSoon
		case reached < direct:
			every = askPathsSoon
		}
		had, generation, direct, mapped = now, m.Generation, reached, g.mapped()
		if connected && slices.ContainsFunc(m.Peers, hasRelays) && time.Since(asked) >= every {
			if !asked.IsZero() {
				every = min(2*every, askPathsEvery)
			}
			asked = time.Now()
			g.askPaths(ctx, g.coord, m, now)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func hasRelays(p wire.Peer) bool { return len(p.Endpoints) == 0 && len(p.Relays) > 0 }

// direct counts the relayed peers that are reached directly.
func (g *Gateway) direct(m wire.NetMap) (n int) {
	for _, p := range m.Peers {
		if s, _ := g.opt.Steer.Status(p.PublicKey); s.Way.IsValid() {
			n++
		}
	}
	return n
}

// ownAddresses are those of the machine's interfaces that are not in the plan.
func (g *Gateway) ownAddresses() []netip.Addr {
	if g.opt.Addresses == nil {
		return nil
	}
	overlay := g.currentMap().Overlay
	all := slices.DeleteFunc(g.opt.Addresses(), func(a netip.Addr) bool {
		return slices.ContainsFunc(overlay, func(p netip.Prefix) bool { return p.Contains(a) })
	})
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all)
}

// askPaths asks the coordinator where the relayed peers are, and has them looked for there. An older coordinator answers nothing of use.
func (g *Gateway) askPaths(ctx context.Context, c *control.HTTP, m wire.NetMap, own []netip.Addr) {
	st, err := g.opt.Device.Status(ctx)
	if err != nil {
		return
	}
	q := wire.PathsQuestion{Mapped: g.mapped()}
	for _, a := range own[:min(len(own), wire.MaxLocalPaths)] {
		q.Local = append(q.Local, netip.AddrPortFrom(a, st.ListenPort))
	}
	answer, err := c.Paths(ctx, q)
	if err != nil {
		g.opt.Log.Debug("where peers are is not known", "error", err)
		return
	}
	g.opt.Steer.Candidates(candidates(m, answer))
}

// candidates takes of an answer what is about relayed peers.
func candidates(m wire.NetMap, a wire.PathsAnswer) map[wgkey.PublicKey][]path.Candidate {
	out := make(map[wgkey.PublicKey][]path.Candidate, len(a.Peers))
	for _, p := range a.Peers[:min(len(a.Peers), wire.MaxPathPeers)] {
		if !slices.ContainsFunc(m.Peers, func(q wire.Peer) bool { return q.PublicKey == p.PublicKey && hasRelays(q) }) {
			continue
		}
		var list []path.Candidate
		if p.Seen.IsValid() {
			list = append(list, path.Candidate{Address: p.Seen, Source: path.Observed})
		}
		if p.Mapped.IsValid() {
			list = append(list, path.Candidate{Address: p.Mapped, Source: path.Mapped})
		}
		for _, l := range p.Local[:min(len(p.Local), wire.MaxLocalPaths)] {
			list = append(list, path.Candidate{Address: l, Source: path.Local})
		}
		out[p.PublicKey] = list
	}
	return out
}

// pathStatus says by which way a relayed peer is reached; nil for others, which have one way only, and where nothing steers.
func pathStatus(b *steer.Bind, key wgkey.PublicKey) *localapi.Path {
	if b == nil {
		return nil
	}
	s, ok := b.Status(key)
	if !ok {
		return nil
	}
	return &localapi.Path{State: s.State.String(), Since: s.Since, Direct: s.Way, RTT: s.RTT, Loss: s.Loss}
}
