package reconcile

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/towpath/towpath/gateway/health"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/filter"
)

// CodeFirewall is the Condition of a box whose firewall is not as it should be.
const CodeFirewall = "firewall"

// Sides are the networks that a box is attached to.
type Sides struct {
	// LAN are the names of the Site's interfaces. Shared are those that lead to the internet, too: there Site are the Site's networks.
	LAN, Shared []string
	Site        []netip.Prefix
	// Also are networks of the Site wherever they are, as a person says.
	Also []netip.Prefix
	// Attached are the networks of all interfaces but the tunnel's.
	Attached []netip.Prefix
}

// clinicalPorts are those that are barred whatever the plan has: DICOM (PS3.8 §9.1.1, PS3.15 §B: 104 and 11112, 2761 and 2762 secured) and
// HL7 (MLLP by custom).
func clinicalPorts() []uint16 { return []uint16{104, 2575, 2761, 2762, 11112} }

// everybodys are ports that the machine itself needs: SSH, SMTP, DNS, the web. A plan that uses one does not cut the machine off.
func everybodys() []uint16 { return []uint16{22, 25, 53, 80, 443, 465, 587, 853, 8080, 8443} }

// Firewall works out the rules that go with d, which was compiled from m. It is pure.
func Firewall(d Desired, m wire.NetMap, tunnel string, s Sides) filter.Ruleset {
	r := filter.Ruleset{
		Tunnel: tunnel, Overlay: append(slices.Clone(m.Overlay), host(m.Hub.Address)), Ports: clinicalPorts(),
		LAN: s.LAN, Shared: s.Shared, Site: s.Site, Also: s.Also,
	}
	for _, p := range s.Attached {
		if slices.ContainsFunc(m.Overlay, p.Overlaps) {
			r.Keep = append(r.Keep, p)
		}
	}
	planned := func(port uint16) {
		if port != 0 && !slices.Contains(everybodys(), port) {
			r.Ports = append(r.Ports, port)
		}
	}
	for _, o := range m.Offers {
		planned(o.Port)
		planned(targetPort(o.Target))
	}
	for _, u := range m.Uses {
		planned(u.LANPort)
		planned(u.Address.Port())
	}
	for _, l := range d.Listeners {
		if l.Side == LAN {
			r.Listen = append(r.Listen, targetPort(l.Address))
		} else if a, err := netip.ParseAddrPort(l.Address); err == nil {
			r.Open = append(r.Open, a)
		}
	}
	return r
}

// targetPort is the port of host:port, 0 if there is none.
func targetPort(hostport string) uint16 {
	_, port, err := net.SplitHostPort(hostport)
	if err != nil {
		return 0
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return 0
	}
	return uint16(n)
}

// tighten is the first step of Apply: from here on nothing passes that does not both before and after.
func (r *Runner) tighten(ctx context.Context, next filter.Ruleset) error {
	if r.cfg.Firewall == nil {
		return nil
	}
	return r.applyFirewall(ctx, filter.Tight(r.fence, next))
}

// loosen is the last one.
func (r *Runner) loosen(ctx context.Context, next filter.Ruleset) error {
	if r.cfg.Firewall == nil {
		return nil
	}
	if err := r.applyFirewall(ctx, next); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fence = next
	return nil
}

// Rules returns what is in force, and false if there is no firewall or nothing was applied yet. It may be called at any time.
func (r *Runner) Rules() (filter.Ruleset, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fence, r.fence.Tunnel != ""
}

// applyFirewall puts rules in force. A machine that has no firewall goes on without: the other two locks hold, and a person is told.
func (r *Runner) applyFirewall(ctx context.Context, rules filter.Ruleset) error {
	err := r.cfg.Firewall.Apply(ctx, rules)
	r.unfenced = errors.Is(err, filter.ErrUnavailable)
	switch {
	case r.unfenced:
		r.cfg.Health.Raise(CodeFirewall, health.Error, "this box works without its firewall, the third of three locks: "+err.Error(), time.Now())
		return nil
	case err != nil:
		r.cfg.Health.Raise(CodeFirewall, health.Error, "the firewall cannot be set: "+err.Error(), time.Now())
		return fmt.Errorf("set the firewall: %w", err)
	}
	if side := sideless(rules); side != "" {
		r.cfg.Health.Raise(CodeFirewall, health.Warning, side, time.Now())
	} else {
		r.cfg.Health.Clear(CodeFirewall)
	}
	return nil
}

// sideless says what is wrong with a box whose devices cannot come in anywhere.
func sideless(rules filter.Ruleset) string {
	if len(rules.Listen) == 0 || len(rules.LAN)+len(rules.Shared)+len(rules.Also) > 0 {
		return ""
	}
	return "no interface of this box belongs to the site, so its devices cannot reach it: all have public addresses or lead to the internet. " +
		"Name the site's side with --lan ADDRESS, or its networks with --lan-net PREFIX"
}

// Guard makes the rules be those of d again, after the box's interfaces changed or somebody else's hand did. It does nothing before the
// first Apply.
func (r *Runner) Guard(ctx context.Context, rules filter.Ruleset) error {
	if r.cfg.Firewall == nil || r.fence.Tunnel == "" || r.unfenced {
		return nil
	}
	s, err := r.cfg.Firewall.Status(ctx)
	if err == nil && s.Intact && rules.Equal(r.fence) {
		return nil
	}
	if err == nil && !s.Intact {
		r.cfg.Log.Warn("somebody has changed or removed the firewall's table; it is put back", "there", s.Loaded)
	}
	return r.loosen(ctx, rules)
}
