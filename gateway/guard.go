package gateway

import (
	"context"
	"time"

	"github.com/towpath/towpath/gateway/localapi"
	"github.com/towpath/towpath/gateway/reconcile"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/filter"
)

// Guard is what a Gateway needs for the third lock. The zero value stands for a Device that has no interface of its own.
type Guard struct {
	// Firewall is nil where there is none.
	Firewall filter.Firewall
	// Interface is the tunnel's.
	Interface string
	// Sides learns what the box is attached to. It is called every few seconds.
	Sides func() reconcile.Sides
	// OverlayOnly leaves everybody's clinical ports alone: the computer is a person's.
	OverlayOnly bool
	// Absent says why there is no firewall, for status.
	Absent string
}

// mark is what goes on the sockets of the LAN side.
func (g Guard) mark() uint32 {
	if g.Firewall == nil || g.OverlayOnly {
		return 0
	}
	return tunnel.MarkLAN
}

// rules go with d, which was compiled from m, and with the networks that the box has now.
func (g *Gateway) rules(d reconcile.Desired, m wire.NetMap) filter.Ruleset {
	if g.opt.Guard.Firewall == nil {
		return filter.Ruleset{}
	}
	r := reconcile.Firewall(d, m, g.opt.Guard.Interface, g.opt.Guard.Sides())
	if g.opt.Guard.OverlayOnly {
		r.Ports, r.Listen = nil, nil
	}
	return r
}

// guard looks whether the firewall still is what it should be.
func (g *Gateway) guard(ctx context.Context) {
	if g.opt.Guard.Firewall == nil {
		return
	}
	g.making.mu.Lock()
	defer g.making.mu.Unlock()
	if err := g.runner.Guard(ctx, g.rules(g.making.tried, g.making.triedMap)); err != nil {
		g.opt.Log.Warn("the firewall is not as it should be", "error", err)
	}
}

// firewallStatus is for people.
func (g *Gateway) firewallStatus(ctx context.Context) localapi.Firewall {
	if g.opt.Guard.Firewall == nil {
		return localapi.Firewall{State: localapi.FirewallAbsent, Detail: g.opt.Guard.Absent}
	}
	s, err := g.opt.Guard.Firewall.Status(ctx)
	f := localapi.Firewall{State: localapi.FirewallOn}
	switch {
	case err != nil:
		f.State, f.Detail = localapi.FirewallFailed, err.Error()
	case !s.Intact:
		f.State, f.Detail = localapi.FirewallFailed, "the table is not the one that this gateway has loaded; it is put back within "+observeEvery.Round(time.Second).String()
	}
	for _, d := range s.Dropped {
		if d.Packets > 0 {
			f.Dropped = append(f.Dropped, localapi.Dropped{What: d.What, Packets: d.Packets, Bytes: d.Bytes})
		}
	}
	return f
}
