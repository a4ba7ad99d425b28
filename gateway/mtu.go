package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/towpath/towpath/gateway/control"
	"github.com/towpath/towpath/gateway/health"
	"github.com/towpath/towpath/gateway/mtu"
	"github.com/towpath/towpath/tunnel"
)

const codeMTU = "mtu"

// mtu is the inner MTU in bytes.
func (g *Gateway) mtu() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return cmp.Or(g.lowered, g.firstMTU())
}

func (g *Gateway) firstMTU() int { return cmp.Or(g.opt.MTU, tunnel.DefaultMTU) }

// mtuLoop finds out if packets of full size get through, and has smaller ones made if not.
func (g *Gateway) mtuLoop(ctx context.Context) error {
	f := mtu.New(g.firstMTU())
	had := g.ownAddresses()
	for due := time.Now(); ; {
		wait := min(time.Until(due), addressesEvery)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(max(wait, 0)):
		}
		if now := g.ownAddresses(); !slices.Equal(had, now) {
			had, due = now, time.Now()
			f.Moved()
			g.useMTU(f)
		}
		if time.Now().Before(due) {
			continue
		}
		o := g.trySizes(ctx)
		next := f.Take(o, time.Now())
		g.useMTU(f)
		due = time.Now().Add(next)
	}
}

// trySizes finds out if packets as large as the tunnel's MTU get to the coordinator and back. Over TCP it is not for us to care.
func (g *Gateway) trySizes(ctx context.Context) mtu.Outcome {
	if g.opt.Carrier != nil && g.opt.Carrier.Status().Carried {
		return mtu.Unknown
	}
	try := func(n int, wait time.Duration) error {
		ctx, cancel := context.WithTimeout(ctx, wait)
		defer cancel()
		return g.coord.Sizes(ctx, n)
	}
	err := try(mtu.Large, mtu.Wait)
	if err == nil {
		return mtu.Through
	}
	if !errors.Is(err, control.ErrNoAnswer) || ctx.Err() != nil {
		return mtu.Unknown
	}
	if try(mtu.Small, mtu.SmallWait) != nil {
		return mtu.Unknown
	}
	return mtu.Lost
}

// useMTU has the tunnel use the size that was found. In an overlay with IPv6 it only says so: below 1280 there is no IPv6 (RFC 8200 §5).
func (g *Gateway) useMTU(f *mtu.Finder) {
	size, six := f.Size(), slices.ContainsFunc(g.currentMap().Overlay, func(p netip.Prefix) bool { return p.Addr().Is6() })
	if f.Lowered().IsZero() {
		g.health.Clear(codeMTU)
	} else {
		text := fmt.Sprintf("packets of %d bytes get lost on the way to the coordinator, and no router says so; this box makes smaller ones, of %d bytes", g.firstMTU(), size)
		if six && size < 1280 {
			text = fmt.Sprintf("packets of %d bytes get lost on the way to the coordinator, and the addresses of this network allow no smaller ones", g.firstMTU())
		}
		g.health.Raise(codeMTU, health.Warning, text+": look for a PPPoE, LTE or VPN router on the way that drops what is too large, or blocks ICMP", time.Now())
	}
	if size == g.firstMTU() || six && size < 1280 {
		size = 0
	}
	g.mu.Lock()
	changed := g.lowered != size
	g.lowered = size
	g.mu.Unlock()
	if !changed {
		return
	}
	g.opt.Log.Info("the tunnel's MTU has changed", "bytes", g.mtu())
	select {
	case g.changed <- struct{}{}:
	default: // the loop will find it
	}
	g.coord.Move() // connections there are go on receiving packets of the former size
}
