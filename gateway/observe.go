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
	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// A session of WireGuard is renewed every 2 minutes while there is traffic and dead after 3 (REJECT_AFTER_TIME, WireGuard paper §6.1).
const deadAfter = 3 * time.Minute

// observe turns what the device and the queue say into Conditions. It reports whether the device says anything: one that does not has to be
// configured again.
func (g *Gateway) observe(ctx context.Context) bool {
	now := time.Now()
	st, err := g.opt.Device.Status(ctx)
	if err != nil {
		g.opt.Log.Warn("the tunnel's status cannot be read", "error", err)
		return false
	}
	m := g.currentMap()
	g.mu.Lock()
	g.keys.heard(lastHandshake(st, m.Hub.PublicKey, wgkey.PublicKey{}))
	g.mu.Unlock()
	seen := handshakes(st)
	var codes []string
	for _, p := range m.Peers {
		last := seen[p.PublicKey]
		if next := seen[p.NextKey]; next.After(last) {
			last = next
		}
		// A peer without an endpoint calls us: its silence is its own gateway's matter until it has been heard once. And a person's computer
		// is off at night.
		if (!calls(p) && last.IsZero()) || now.Sub(last) < deadAfter || p.Kind == wire.Workstation || p.Kind == wire.Unmanaged {
			continue
		}
		code := codePeer + p.Site
		codes = append(codes, code)
		g.health.Raise(code, health.Error, peerMessage(p, last), now)
	}
	g.health.Keep(codePeer, codes)
	g.observeQueues(m, now)
	g.observeHL7(now)
	g.observeDICOM(now)
	g.observePolls(now)
	g.observeLANTLS(m)
	g.observeTwins(m, now)
	g.observeDevices(m, now)
	g.observeExpiry(m, now)
	g.observeCarrier(now)
	g.observeFailover(now)
	return true
}

func handshakes(st tunnel.Status) map[wgkey.PublicKey]time.Time {
	seen := make(map[wgkey.PublicKey]time.Time, len(st.Peers))
	for _, p := range st.Peers {
		seen[p.PublicKey] = p.LastHandshake
	}
	return seen
}

func peerMessage(p wire.Peer, last time.Time) string {
	since := "ever"
	if !last.IsZero() {
		since = "since " + last.UTC().Format(time.RFC3339)
	}
	if len(p.Endpoints) == 0 && len(p.Relays) > 0 {
		return fmt.Sprintf("site %s has not been heard %s through the relay at %s: check that its box runs, and that this network lets UDP out to the relay",
			p.Site, since, p.Relays[0])
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
	g.observeFull(now)
}

// reportLoop tells the coordinator how it goes: soon after something changed that an operator should see, and else at long intervals,
// because every report of every box is a write at the coordinator.
func (g *Gateway) reportLoop(ctx context.Context, c control.Coordinator) error {
	tick := time.NewTicker(reportSoon)
	defer tick.Stop()
	var last, keyTold time.Time
	var told string
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		r, connected := g.report()
		if connected && time.Since(keyTold) >= tellEvery && g.tellKey(ctx, c) {
			keyTold = time.Now()
		}
		news := news(r)
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

// news is what of a report makes it worth sending at once: another set of Conditions, something parked, other networks, a device that was
// not there, speaks otherwise or has another end of cleartext, an archive that accepts something else, an error. Which map is in force the
// heartbeats say already, and a queue that fills and empties is none.
func news(r wire.Report) string {
	var b strings.Builder
	fmt.Fprintln(&b, r.ApplyError)
	fmt.Fprintln(&b, len(r.Facts.Devices))
	for _, a := range r.Facts.Archives {
		fmt.Fprintln(&b, a.Service, a.Pairs, a.Problem)
	}
	for _, c := range r.Conditions {
		fmt.Fprintln(&b, c.Code, c.Severity)
	}
	for _, q := range r.Queues {
		fmt.Fprintln(&b, q.Name, q.Parked)
	}
	fmt.Fprintln(&b, r.Facts.LANs, r.Facts.WANs, r.Facts.Containers)
	if l := r.Facts.LANTLS; l != nil {
		for _, d := range l.Devices {
			fmt.Fprintln(&b, d.Source, d.Calling, d.Service, d.Cleartext > 0, d.TLS > 0, d.Refused > 0, d.Until.Unix())
		}
	}
	return b.String()
}

func (g *Gateway) report() (wire.Report, bool) {
	beat := g.beat()
	g.mu.Lock()
	r := wire.Report{Format: wire.Format, Applied: beat.Applied, ApplyError: beat.ApplyError, Facts: g.facts}
	connected := g.link.Connected
	g.mu.Unlock()
	r.Facts.LANTLS, r.Facts.PairKeys = g.lanReport(), true
	r.Facts.Archives, r.Facts.Devices = g.twins.facts(), deviceFacts(g.devices.List())
	for _, c := range g.health.List() {
		r.Conditions = append(r.Conditions, wire.Condition{Code: c.Code, Severity: string(c.Severity), Message: c.Message, Since: c.Since})
	}
	for _, q := range g.opt.Spool.Stats() {
		r.Queues = append(r.Queues, wire.Queue{Name: q.Queue, Queued: q.Queued, Parked: q.Parked, Carried: q.Carried, Bytes: q.Bytes, Delivered: q.Delivered})
	}
	return r, connected
}
