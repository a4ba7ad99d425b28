package gateway

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/towpath/towpath/gateway/control"
	"github.com/towpath/towpath/gateway/health"
	"github.com/towpath/towpath/gateway/reconcile"
	"github.com/towpath/towpath/provisioning/wire"
)

// A session of WireGuard is renewed every 2 minutes while there is traffic and dead after 3 (REJECT_AFTER_TIME, WireGuard paper §6.1).
const deadAfter = 3 * time.Minute

// clockTolerance is how far clocks may be apart before somebody is told.
const clockTolerance = 2 * time.Minute

// observe turns what the device and the queue say into Conditions.
func (g *Gateway) observe(ctx context.Context) {
	now := time.Now()
	st, err := g.opt.Device.Status(ctx)
	if err != nil {
		g.opt.Log.Warn("the tunnel's status cannot be read", "error", err)
		return
	}
	m := g.currentMap()
	seen := make(map[string]time.Time, len(st.Peers))
	for _, p := range st.Peers {
		seen[p.PublicKey.String()] = p.LastHandshake
	}
	var codes []string
	for _, p := range m.Peers {
		last := seen[p.PublicKey.String()]
		// A peer without an endpoint calls us: its silence is its own gateway's matter until it has been heard once.
		if (len(p.Endpoints) == 0 && last.IsZero()) || now.Sub(last) < deadAfter {
			continue
		}
		code := codePeer + p.Site
		codes = append(codes, code)
		g.health.Raise(code, health.Error, peerMessage(p, last), now)
	}
	g.health.Keep(codePeer, codes)
	g.observeQueues(m, now)
	g.observeHL7(now)
	g.observeExpiry(m, now)
}

func peerMessage(p wire.Peer, last time.Time) string {
	since := "ever"
	if !last.IsZero() {
		since = "since " + last.UTC().Format(time.RFC3339)
	}
	if len(p.Endpoints) == 0 {
		return fmt.Sprintf("site %s has not been heard %s: check its box and its internet line", p.Site, since)
	}
	return fmt.Sprintf("site %s at %s has not answered %s: check that this network lets UDP out to it, and this box's clock",
		p.Site, strings.Join(p.Endpoints, ", "), since)
}

func (g *Gateway) observeQueues(m wire.NetMap, now time.Time) {
	served := make(map[string]bool, len(m.Uses))
	for _, u := range m.Uses {
		served[reconcile.QueueName(u.Protocol, u.Service)] = u.Mode == wire.Queued
	}
	returnQueues(m, served)
	var codes []string
	for _, q := range g.opt.Spool.Stats() {
		code := codeQueue + q.Queue
		switch {
		case q.Parked > 0:
			codes = append(codes, code)
			g.health.Raise(code, health.Error, fmt.Sprintf("%d of queue %s were refused for good and wait for a decision: %s", q.Parked, q.Queue, cmp.Or(q.ParkedError, "see the log")), now)
		case q.Queued > 0 && !served[q.Queue]:
			codes = append(codes, code)
			g.health.Raise(code, health.Error, fmt.Sprintf("%d wait in queue %s, whose service this site may no longer use: allow it again", q.Queued, q.Queue), now)
		case q.Queued > 0 && q.LastError != "" && now.Sub(q.OldestCreated) > time.Minute:
			codes = append(codes, code)
			g.health.Raise(code, health.Warning, fmt.Sprintf("%d wait in queue %s: %s", q.Queued, q.Queue, q.LastError), now)
		}
	}
	g.health.Keep(codeQueue, codes)
}

func (g *Gateway) observeExpiry(m wire.NetMap, now time.Time) {
	if m.Expires.IsZero() || now.Before(m.Expires) {
		g.health.Clear(codeExpiry)
		return
	}
	g.health.Raise(codeExpiry, health.Warning, "the plan of this box is older than it should be: it goes on working, but the coordinator must be reached", now)
}

// checkClock compares the clock with the latest time this box has certainly lived through, and raises that floor.
func (g *Gateway) checkClock() {
	now := time.Now()
	floor, err := g.opt.Dir.TimeFloor()
	if err != nil {
		g.opt.Log.Warn("the time floor cannot be read", "error", err)
	}
	if now.Before(floor.Add(-clockTolerance)) {
		if g.health.Raise(codeClock, health.Error, fmt.Sprintf(
			"this box's clock says %s, but it was already %s when the box last ran: peers refuse handshakes from the past until the clock is right; set it, or enable time synchronization",
			now.UTC().Format(time.RFC3339), floor.UTC().Format(time.RFC3339)), now) {
			g.opt.Log.Error("the clock is in the past", "now", now, "floor", floor)
		}
		return
	}
	g.health.Clear(codeClock)
	if err := g.opt.Dir.RaiseTimeFloor(now); err != nil {
		g.opt.Log.Warn("the time floor cannot be written", "error", err)
	}
}

// noteClock compares with the coordinator's clock.
func (g *Gateway) noteClock(theirs time.Time) {
	const code = codeClock + "-skew"
	if skew := time.Since(theirs).Abs(); !theirs.IsZero() && skew > clockTolerance {
		g.health.Raise(code, health.Warning, fmt.Sprintf("this box's clock differs from the coordinator's by %s: enable time synchronization", skew.Round(time.Second)), time.Now())
		return
	}
	g.health.Clear(code)
}

// reportLoop tells the coordinator how it goes: soon after something changed that an operator should see, and else at long intervals,
// because every report of every box is a write at the coordinator.
func (g *Gateway) reportLoop(ctx context.Context, c control.Coordinator) error {
	tick := time.NewTicker(reportSoon)
	defer tick.Stop()
	var last time.Time
	var told string
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		r, connected := g.report()
		news := g.news(r)
		if !connected || (news == told && time.Since(last) < reportEvery) {
			continue
		}
		if err := c.Report(ctx, r); err != nil {
			g.opt.Log.Debug("report failed", "error", err)
			continue
		}
		last, told = time.Now(), news
	}
}

// news is what of a report makes it worth sending at once: another map in force, another set of Conditions, something parked, other
// networks. A generation that left this box's map as it was is none, and neither is a queue that fills and empties.
func (g *Gateway) news(r wire.Report) string {
	var b strings.Builder
	g.mu.Lock()
	fmt.Fprintln(&b, g.applied, r.ApplyError)
	g.mu.Unlock()
	for _, c := range r.Conditions {
		fmt.Fprintln(&b, c.Code, c.Severity)
	}
	for _, q := range r.Queues {
		fmt.Fprintln(&b, q.Name, q.Parked)
	}
	fmt.Fprintln(&b, r.Facts.LANs, r.Facts.WANs, r.Facts.Containers)
	return b.String()
}

func (g *Gateway) report() (wire.Report, bool) {
	g.mu.Lock()
	r := wire.Report{Format: wire.Format, Applied: g.applied, ApplyError: g.problem, Facts: g.facts}
	if g.applied == g.netMap.Generation {
		r.Applied = g.newest // the map did not change since, and is true for the newest generation too
	}
	connected := g.link.Connected
	g.mu.Unlock()
	for _, c := range g.health.List() {
		r.Conditions = append(r.Conditions, wire.Condition{Code: c.Code, Severity: string(c.Severity), Message: c.Message, Since: c.Since})
	}
	for _, q := range g.opt.Spool.Stats() {
		r.Queues = append(r.Queues, wire.Queue{Name: q.Queue, Queued: q.Queued, Parked: q.Parked, Bytes: q.Bytes, Delivered: q.Delivered})
	}
	return r, connected
}
