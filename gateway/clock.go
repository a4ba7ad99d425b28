package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/towpath/towpath/gateway/clock"
	"github.com/towpath/towpath/gateway/control"
	"github.com/towpath/towpath/gateway/health"
	"github.com/towpath/towpath/gateway/state"
	"github.com/towpath/towpath/provisioning/wire"
)

// bootAnswer is how long a box whose clock was in the past waits for the coordinator's before it starts its tunnel.
const bootAnswer = 5 * time.Second

// BootClock sets a clock that went back, before there is a tunnel: first to the floor, then to what the coordinator says, if it says it
// within five seconds. A clock that needs nothing costs nothing. What cannot be done is no reason to stay off.
func BootClock(ctx context.Context, k *clock.Keeper, dir *state.Dir, id state.Identity, ways control.Ways, log *slog.Logger) {
	if k.Check(time.Time{}).Repaired == 0 {
		return
	}
	m, err := dir.NetMap(id.NetworkKey)
	if err != nil {
		return // New says so
	}
	key, err := id.PrivateKey.Public()
	if err != nil {
		return // as above
	}
	ctx, cancel := context.WithTimeout(ctx, bootAnswer)
	defer cancel()
	r, err := question(m, key, ways).AskAtOnce(ctx)
	if err != nil || r.Now.IsZero() {
		log.Warn("the coordinator does not tell the time, so this box begins when it last ran", "error", err)
		return
	}
	k.Check(r.Now)
}

// checkClock looks at the clock once a minute.
func (g *Gateway) checkClock() { g.tellClock(g.clock.Check(time.Time{})) }

func (g *Gateway) tellClock(l clock.Look) {
	now := time.Now()
	g.lanTLS.floor.Store(&l.Floor)
	if l.Past() {
		if g.health.Raise(codeClock, health.Error, fmt.Sprintf(
			"this box's clock says %s, but it was already %s before: peers refuse handshakes from the past until the clock is right; set it, or enable time synchronization",
			l.Now.UTC().Format(time.RFC3339), l.Floor.UTC().Format(time.RFC3339)), now) {
			g.opt.Log.Error("the clock is in the past", "now", l.Now, "floor", l.Floor)
		}
	} else {
		g.health.Clear(codeClock)
	}
	by, at := g.clock.Repaired()
	if by == 0 {
		g.health.Clear(codeRepaired)
		return
	}
	direction := "behind"
	if by < 0 {
		direction = "ahead"
	}
	g.health.Raise(codeRepaired, health.Info, fmt.Sprintf("this box's clock was %s %s and was set to %s: enable time synchronization, and have its battery looked at",
		by.Abs().Round(time.Second), direction, at.UTC().Format(time.RFC3339)), now)
}

// noteClock compares with the coordinator's clock. One that came with a map may be minutes old on a slow line.
func (g *Gateway) noteClock(f wire.Frame) {
	if !f.Now.IsZero() && f.NetMap == nil && f.Change == nil {
		g.correctClock(f.Now)
	}
}

// correctClock sets the clock by the coordinator's if it may and must be.
func (g *Gateway) correctClock(theirs time.Time) {
	if theirs.IsZero() {
		return
	}
	if g.clock.Skew(theirs).Abs() > state.ClockTolerance {
		g.tellClock(g.clock.Check(theirs))
	}
	skew := g.clock.Skew(theirs)
	if skew.Abs() <= state.ClockTolerance {
		g.health.Clear(codeSkew)
		return
	}
	g.health.Raise(codeSkew, health.Warning, fmt.Sprintf("this box's clock differs from the coordinator's by %s: enable time synchronization", skew.Abs().Round(time.Second)), time.Now())
}
