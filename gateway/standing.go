package gateway

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/towpath/towpath/gateway/control"
	"github.com/towpath/towpath/gateway/health"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// Conditions of a box that the hub does not talk to any more. One of them holds at most, and none beside codeCoordinator.
const (
	codeRemoved     = "removed"
	codeQuarantined = "quarantined"
	codeReplaced    = "replaced"
	codeWaiting     = "waiting"
)

const (
	// silentAfter is how long the hub is silent until the coordinator is asked another way.
	silentAfter = time.Minute
	askPauseMax = 5 * time.Minute
	askLook     = 5 * time.Second
)

// How Run ends where Options say so. Nothing is lost: another Gateway goes on with the same Dir.
var (
	// ErrBlocked means that the coordinator answers on the web and not by UDP, and that Device cannot be carried over TCP.
	ErrBlocked = errors.New("UDP is blocked, and this tunnel device cannot be carried over TCP")
	// ErrUnblocked means that UDP has worked for an hour on a Device that stood in for a faster one.
	ErrUnblocked = errors.New("UDP works again")
)

// unblockedFor is long beside the seconds that a change of Device costs.
const unblockedFor = time.Hour

// standingLoop asks the coordinator without the tunnel when its hub is silent: a box that was removed would hear nothing else, ever.
func (g *Gateway) standingLoop(ctx context.Context) error {
	tick := time.NewTicker(askLook)
	defer tick.Stop()
	w := watch{free: time.Now()}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := g.standing(ctx, &w, time.Now()); err != nil {
			return err
		}
	}
}

// watch is what standingLoop remembers: when to ask next, and since when everything goes by UDP.
type watch struct {
	next schedule
	free time.Time
}

func (g *Gateway) standing(ctx context.Context, w *watch, now time.Time) error {
	silence := g.silence()
	if w.next.due(silence, now) && g.askStanding(ctx) && g.opt.GiveWay && g.opt.Carrier == nil {
		return ErrBlocked
	}
	if silence > 0 || (g.opt.Carrier != nil && g.opt.Carrier.Status().Carried) {
		w.free = now
	}
	if g.opt.StandIn && now.Sub(w.free) >= unblockedFor {
		return ErrUnblocked
	}
	return nil
}

// silence is for how long the hub has not been heard.
func (g *Gateway) silence() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.link.Connected:
		return 0
	case g.link.Since.IsZero():
		return time.Since(g.started)
	}
	return time.Since(g.link.Since)
}

// schedule says when to ask: after a minute of silence, then after one, two and four more, then every five. Some of it is chance, so that
// a fleet does not ask all at once after its coordinator was away.
type schedule struct {
	at    time.Time
	pause time.Duration
}

func (s *schedule) due(silence time.Duration, now time.Time) bool {
	if silence < silentAfter {
		*s = schedule{}
		return false
	}
	if s.pause == 0 {
		s.pause, s.at = silentAfter, now.Add(rand.N(silentAfter/2))
	}
	if now.Before(s.at) {
		return false
	}
	s.at = now.Add(s.pause + rand.N(s.pause/5))
	s.pause = min(2*s.pause, askPauseMax)
	return true
}

func question(m wire.NetMap, key wgkey.PublicKey, ways control.Ways) control.StandingQuestion {
	return control.StandingQuestion{Ways: ways, URLs: m.Hub.URLs, Seal: m.Hub.Seal, Node: m.Self.Node, Key: key}
}

// askStanding asks, and tells a person what came of it. No answer changes nothing. It reports whether only the tunnel is silent: the
// coordinator answers, and says that nothing is wrong with this box.
func (g *Gateway) askStanding(ctx context.Context) (blocked bool) {
	m := g.currentMap()
	if len(m.Hub.URLs) == 0 || len(m.Hub.Seal) == 0 {
		return false
	}
	g.mu.Lock()
	own, other := g.keys.own, g.keys.next
	if other.IsZero() {
		other = g.keys.former
	}
	g.mu.Unlock()
	r, err := question(m, own, g.opt.Ways).Ask(ctx)
	if err == nil && r.Standing == wire.StandingReplaced && !other.IsZero() {
		// While the key is being changed, the other one may be this box too.
		r, err = question(m, other, g.opt.Ways).Ask(ctx)
	}
	if err != nil {
		g.opt.Log.Debug("the coordinator does not answer outside the tunnel either", "error", err)
		return false
	}
	g.correctClock(r.Now)
	g.mu.Lock()
	connected := g.link.Connected
	g.mu.Unlock()
	if connected {
		return false
	}
	g.raiseStanding(r, time.Now())
	return r.Standing == wire.StandingActive
}

// raiseStanding turns an answer into the one Condition that holds.
func (g *Gateway) raiseStanding(r wire.StandingResponse, now time.Time) {
	var code, text string
	sev := health.Error
	switch r.Standing {
	case wire.StandingUnknown:
		code, text = codeRemoved, "this box was removed from the network: nothing goes through until it is enrolled again with a new token from the center. "+
			"What is in its queue is kept"
	case wire.StandingQuarantined:
		code, text = codeQuarantined, "the center has put this box in quarantine: nothing goes through until the center lets it in again. Call the center"
	case wire.StandingReplaced:
		code, text = codeReplaced, "another box has taken the place of this one: take this one off the network, or call the center if that is a mistake. "+
			"What is in its queue is kept"
	case wire.StandingWaiting:
		code, sev, text = codeWaiting, health.Warning, "this box waits until somebody at the center agrees to it: call the center"
	case wire.StandingActive:
		code, sev, text = codeCoordinator, health.Warning, "the coordinator answers on the web and not in the tunnel: this network, or the clinic's firewall, must let "+
			"UDP out to it."+g.withoutCarrier()+" This box goes on with its last good plan"
	default:
		return // of a later contract
	}
	if r.Message != "" {
		text += " (" + r.Message + ")"
	}
	for _, c := range standingCodes() {
		if c != code {
			g.health.Clear(c)
		}
	}
	if g.health.Raise(code, sev, text, now) {
		g.opt.Log.Warn("the coordinator says what it thinks of this box", "standing", string(r.Standing))
	}
}

func standingCodes() []string {
	return []string{codeRemoved, codeQuarantined, codeReplaced, codeWaiting, codeCoordinator}
}

// standingHolds reports whether a person has been told already.
func (g *Gateway) standingHolds() bool { return slices.ContainsFunc(standingCodes(), g.health.Has) }

// clearStanding ends what was true while the hub was silent, and reports whether anything was.
func (g *Gateway) clearStanding() (held bool) {
	for _, c := range standingCodes() {
		held = g.health.Clear(c) || held
	}
	return held
}
