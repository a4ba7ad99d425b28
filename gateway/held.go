package gateway

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/towpath/towpath/gateway/control"
	"github.com/towpath/towpath/gateway/health"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// held is the map of the box, and what is known of it.
func (g *Gateway) held() wire.Held {
	g.mu.Lock()
	defer g.mu.Unlock()
	return wire.Held{NetMap: g.netMap, Hash: g.hash, Generation: g.newest}
}

func (g *Gateway) have() wire.Have {
	h := g.held().Have()
	h.Instance = g.instance
	return h
}

// current is the plan that is to be made true, and the key to do it with.
func (g *Gateway) current() (wire.NetMap, wgkey.PrivateKey) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.plan, g.id.PrivateKey
}

func (g *Gateway) currentMap() wire.NetMap {
	m, _ := g.current()
	return m
}

// beat is what the coordinator hears while the box watches.
func (g *Gateway) beat() wire.Beat {
	g.mu.Lock()
	defer g.mu.Unlock()
	b := wire.Beat{Applied: g.applied, ApplyError: g.problem}
	if g.applied == g.netMap.Generation {
		b.Applied = g.newest // the map did not change since, and is true for the newest generation too
	}
	return b
}

// frame takes one message from the coordinator: a map is verified and saved before anybody acts on it.
func (g *Gateway) frame(f wire.Frame) error {
	g.noteClock(f)
	if f.Mail {
		g.pairMail.Store(true)
	}
	next, stored, err := g.held().Take(g.opt.Identity.NetworkKey, f)
	if err != nil {
		return fmt.Errorf("refuse the NetMap: %w", err)
	}
	if stored == nil {
		g.hold(next, nil)
		return nil
	}
	if !g.mine(next.NetMap.Self.PublicKey) {
		return errors.New("refuse the NetMap: it is for another box")
	}
	plan, err := g.believe(next.NetMap)
	if err != nil {
		return fmt.Errorf("refuse the NetMap: %w", err)
	}
	if err := g.opt.Dir.SaveNetMap(*stored); err != nil {
		return err
	}
	g.hold(next, &plan)
	select {
	case g.changed <- struct{}{}:
	default: // one is waiting already, and will find the newest map
	}
	return nil
}

// hold makes h what the box has. Plan is set if its map is new.
func (g *Gateway) hold(h wire.Held, plan *wire.NetMap) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.netMap, g.hash, g.newest = h.NetMap, h.Hash, h.Generation
	g.link.Generation = g.newest
	if plan != nil {
		g.plan = *plan
	}
}

// maxReasons bounds what one message says of one part of a plan.
const maxReasons = 3

// believe returns what of a map is to be made true: all of it, unless the network's key is kept off the coordinator. Then what that key
// has not signed is left out, each with a Condition, and a map with which the box would be another one is refused.
func (g *Gateway) believe(m wire.NetMap) (wire.NetMap, error) {
	plan, unsigned := wire.Restrict(m, g.opt.Identity.NetworkKey)
	var codes []string
	var refused error
	reasons := map[string][]string{}
	for _, u := range unsigned {
		reasons[u.Subject] = append(reasons[u.Subject], u.Reason)
		if u.Refuses() {
			refused = fmt.Errorf("%w: %s", wire.ErrSignature, u)
		}
	}
	for subject, why := range reasons {
		codes = append(codes, codeUnsigned+subject)
		text := "the plan has something that the operator's offline key did not sign, so this box leaves it out: "
		if refused != nil {
			text = "the plan is not signed by the operator's offline key, so this box keeps the last one that was: "
		}
		text += subject + ": " + strings.Join(why[:min(len(why), maxReasons)], "; ") + ". If an operator made this change, it has to be signed"
		if g.health.Raise(codeUnsigned+subject, health.Error, text, time.Now()) {
			g.opt.Log.Error("the coordinator's plan is not signed", "what", subject, "why", why)
		}
	}
	g.health.Keep(codeUnsigned, codes)
	return plan, refused
}

func (g *Gateway) connection(err error) {
	now := time.Now()
	g.mu.Lock()
	if connected := err == nil; connected != g.link.Connected || g.link.Since.IsZero() {
		first := g.link.Since.IsZero()
		g.link.Connected, g.link.Since = connected, now
		if first && !connected {
			g.link.Since = g.started
		}
		g.pairMail.Store(connected)
	}
	g.link.LastError = ""
	if err != nil {
		g.link.LastError = err.Error()
	}
	since := g.link.Since
	g.mu.Unlock()
	switch {
	case err == nil:
		if g.clearStanding() {
			g.opt.Log.Info("coordinator reached again")
		}
	case errors.Is(err, control.ErrRemoved):
		g.health.Raise(codeCoordinator, health.Error, err.Error(), now)
	case now.Sub(since) > silentAfter && !g.standingHolds():
		g.health.Raise(codeCoordinator, health.Info,
			"the coordinator has not been reached since "+since.UTC().Format(time.RFC3339)+"; this box goes on with its last good plan", now)
	}
}
