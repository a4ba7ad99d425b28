package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/towpath/towpath/gateway/health"
	"github.com/towpath/towpath/gateway/reconcile"
	"github.com/towpath/towpath/gateway/standby"
	"github.com/towpath/towpath/provisioning/wire"
)

// codeFailover ends with the center that it is about; codeStandby, too.
const (
	codeFailover = "failover/"
	codeStandby  = "standby/"
)

// standbyLost is how long a gateway that is not in use must be out of order before somebody is told.
const standbyLost = time.Minute

// making is the last thing that was to be made true. Making it true belongs to the loop, and when a center's gateway changes to the Keeper, which does
// not wait for the loop: that may be busy with names for seconds.
type making struct {
	keeper *standby.Keeper

	mu      sync.Mutex // held while something is made true
	stopped bool
	began   bool
	m       wire.NetMap
	local   reconcile.Local
	// tried is what was applied last, from triedMap, as far as possible.
	tried    reconcile.Desired
	triedMap wire.NetMap
}

// openStandby reads which gateways were in use. Trouble with that is no reason not to start.
func (g *Gateway) openStandby(o standby.Options) {
	active, err := g.opt.Dir.Standby()
	if err != nil {
		g.opt.Log.Warn("the preferred gateway of each center is used first", "error", err)
	}
	g.making.keeper = standby.NewKeeper(standby.KeeperConfig{
		Network: g.opt.Device, Apply: g.move, Save: g.chosen, Options: o, Log: g.opt.Log,
	}, active)
}

// make makes a map true, with what the Keeper has chosen.
func (g *Gateway) make(ctx context.Context, m wire.NetMap, l reconcile.Local) error {
	g.making.mu.Lock()
	defer g.making.mu.Unlock()
	g.making.m, g.making.local, g.making.began = m, l, true
	err := g.makeLocked(ctx)
	g.making.keeper.Follow(standby.Groups(m))
	return err
}

func (g *Gateway) makeLocked(ctx context.Context) error {
	k := &g.making
	m := standby.Place(k.m, k.keeper.Active())
	d, err := reconcile.Compile(m, k.local)
	if err != nil {
		return err //nolint:wrapcheck // it is a sentence
	}
	d.Firewall = g.rules(d, m)
	k.tried, k.triedMap = d, m
	return g.applyTriedLocked(ctx)
}

// move makes the last map true again, for another choice. It looks up no names. Only what concerns the tunnel counts as failure.
func (g *Gateway) move(ctx context.Context) error {
	g.making.mu.Lock()
	defer g.making.mu.Unlock()
	if g.making.stopped || !g.making.began {
		return context.Canceled
	}
	err := g.makeLocked(context.WithoutCancel(ctx))
	if _, ok := errors.AsType[*reconcile.TunnelError](err); ok {
		return err
	}
	if err != nil {
		g.opt.Log.Warn("not all works through the other gateway", "error", err)
	}
	return nil
}

// chosen keeps a choice over a restart, and tells of it at once.
func (g *Gateway) chosen(active map[string]string) error {
	g.observeFailover(time.Now())
	return g.opt.Dir.SaveStandby(active)
}

// stopRunner ends all that runs, for good.
func (g *Gateway) stopRunner() {
	g.making.mu.Lock()
	defer g.making.mu.Unlock()
	g.making.stopped = true
	g.runner.Stop()
}

// observeFailover tells of centers that are not reached as they should be.
func (g *Gateway) observeFailover(now time.Time) { g.tellFailover(g.making.keeper.Status(), now) }

func (g *Gateway) tellFailover(sites []standby.State, now time.Time) {
	var over, lost []string
	for _, s := range sites {
		active, first := gatewayOf(s, s.Active), gatewayOf(s, s.Preferred)
		switch {
		case active.Failures >= standby.DefaultFailures && !slices.ContainsFunc(s.Gateways, func(x standby.GatewayState) bool { return x.Healthy }):
			over = append(over, codeFailover+s.Site)
			g.health.Raise(codeFailover+s.Site, health.Error, fmt.Sprintf("no gateway of %s is in order, so nothing is changed: %s. Check the center's boxes and their "+
				"internet line, and this network's", s.Site, strings.Join(problems(s), "; ")), now)
		case s.Active != s.Preferred:
			over = append(over, codeFailover+s.Site)
			g.health.Raise(codeFailover+s.Site, health.Warning, fmt.Sprintf("%s is reached through its gateway %s instead of %s%s: %s", s.Site, s.Active, s.Preferred,
				since(s.Since), why(first)), now)
		}
		for _, x := range s.Gateways {
			if x.Node != s.Active && x.Node != s.Preferred && x.Failures > 0 && now.Sub(x.Since) > standbyLost {
				lost = append(lost, codeStandby+s.Site)
				g.health.Raise(codeStandby+s.Site, health.Info, fmt.Sprintf("gateway %s of %s could not stand in for the one in use: %s", x.Node, s.Site, x.Problem), now)
				break
			}
		}
	}
	g.health.Keep(codeFailover, over)
	g.health.Keep(codeStandby, lost)
}

func gatewayOf(s standby.State, node string) standby.GatewayState {
	for _, x := range s.Gateways {
		if x.Node == node {
			return x
		}
	}
	return standby.GatewayState{}
}

func problems(s standby.State) []string {
	var out []string
	for _, x := range s.Gateways {
		out = append(out, fmt.Sprintf("%s: %s", x.Node, x.Problem))
	}
	return out
}

func since(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return " since " + t.UTC().Format(time.RFC3339)
}

// why says why a preferred gateway is not used.
func why(first standby.GatewayState) string {
	if first.Healthy {
		return fmt.Sprintf("that is in order since %s, and is used again when it has been for %d s", first.Since.UTC().Format(time.RFC3339), int(standby.DefaultHold.Seconds()))
	}
	if first.Problem == "" {
		return "it is used again when it has been in order for a while"
	}
	return first.Problem
}
