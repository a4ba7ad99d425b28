package coordinator

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/wire"
)

// TransitionTime is how long cleartext goes on beside TLS if nothing else is said.
const TransitionTime = 14 * 24 * time.Hour

// lately is how long ago a device may have spoken cleartext to stand against an early end.
const lately = 7 * 24 * time.Hour

// LANTLSInfo is how a Site's LAN is protected, and who speaks what there.
type LANTLSInfo struct {
	Site string
	// Policy is nil for cleartext only.
	Policy *wire.LANTLS
	// Boxes are what the Site's gateways have reported.
	Boxes []LANBox
}

// LANBox is what one gateway tells.
type LANBox struct {
	Node     provisioning.NodeID
	LastSeen time.Time
	wire.LANReport
}

// LANTLS returns how a Site's LAN is protected.
func (c *Coordinator) LANTLS(ctx context.Context, site string) (LANTLSInfo, error) {
	var info LANTLSInfo
	err := c.st.View(ctx, func(tx store.Tx) error {
		s, err := siteNamed(tx, site)
		if err != nil {
			return err
		}
		info = LANTLSInfo{Site: s.Name, Policy: s.LANTLS}
		info.Boxes, err = lanBoxes(tx, s.ID)
		return err
	})
	return info, err
}

func lanBoxes(tx store.Tx, site provisioning.SiteID) ([]LANBox, error) {
	nodes, err := tx.Nodes().List()
	if err != nil {
		return nil, fmt.Errorf("read the nodes: %w", err)
	}
	var out []LANBox
	for _, n := range nodes {
		if n.Site == site && n.Facts.LANTLS != nil {
			out = append(out, LANBox{Node: n.ID, LastSeen: n.LastSeen, LANReport: *n.Facts.LANTLS})
		}
	}
	return out, nil
}

// SetLANTLS changes how a Site's LAN is protected, all but its cleartext rules, which are Transition's. Nil is cleartext only: the rules go
// too, and nothing is refused any more.
func (c *Coordinator) SetLANTLS(ctx context.Context, actor, site string, t *wire.LANTLS) error {
	if err := provisioning.CheckLANTLS(t); err != nil {
		return err
	}
	return c.change(ctx, actor, "lan-tls.set", func(tx store.Tx) (string, string, error) {
		s, err := siteNamed(tx, site)
		if err != nil {
			return "", "", err
		}
		if t == nil {
			s.LANTLS = nil
			return s.Name, "cleartext only", tx.Sites().Update(s)
		}
		next := *t
		next.Cleartext = nil
		if s.LANTLS != nil {
			next.Cleartext = s.LANTLS.Cleartext
		}
		if err := tlsPortsAreFree(tx, s, &next); err != nil {
			return "", "", err
		}
		for _, x := range next.Targets {
			v, err := serviceNamed(tx, x.Service)
			if err != nil {
				return "", "", err
			}
			if v.Site != s.ID || strings.HasPrefix(v.Target, wire.FolderTarget) {
				return "", "", provisioning.Errorf(provisioning.Invalid, "service %s has no host and port at site %s", v.Name, s.Name).
					WithHint("a target over TLS is one on the site's own LAN")
			}
		}
		s.LANTLS = &next
		return s.Name, describeLANTLS(&next), tx.Sites().Update(s)
	})
}

func describeLANTLS(t *wire.LANTLS) string {
	auth := "certificates on both sides"
	if t.ServerOnly {
		auth = "certificate of the box only"
	}
	authority := "the box's authority"
	if t.Own {
		authority = "the operator's certificate"
	}
	return fmt.Sprintf("TLS at DICOM port %d and HL7 port %d, %s, %s, %d exceptions for older TLS, %d revoked, %d targets",
		t.DICOMPort, t.HL7Port, auth, authority, len(t.Legacy), len(t.Revoked), len(t.Targets))
}

// tlsPortsAreFree refuses a TLS port on which the Site's box listens in cleartext.
func tlsPortsAreFree(tx store.Tx, s provisioning.Site, t *wire.LANTLS) error {
	ports := []uint16{t.DICOMPort, t.HL7Port}
	for _, p := range t.Ports {
		ports = append(ports, p)
	}
	grants, err := tx.Grants().List()
	if err != nil {
		return fmt.Errorf("read the grants: %w", err)
	}
	for _, g := range grants {
		if g.Site == s.ID && slices.Contains(ports, g.LANPort) {
			return provisioning.Errorf(provisioning.Conflict, "at site %s, port %d is in use for cleartext", s.Name, g.LANPort).
				WithHint("choose another TLS port")
		}
	}
	return nil
}

// isTLSPort reports whether a Site takes TLS at a port.
func isTLSPort(s provisioning.Site, port uint16) bool {
	if s.LANTLS == nil || port == 0 {
		return false
	}
	for _, p := range s.LANTLS.Ports {
		if p == port {
			return true
		}
	}
	return s.LANTLS.DICOMPort == port || s.LANTLS.HL7Port == port
}

// TransitionStep is what is done to the time in which cleartext goes on.
type TransitionStep string

// The steps.
const (
	TransitionStart    TransitionStep = "start"
	TransitionExtend   TransitionStep = "extend"
	TransitionEnd      TransitionStep = "end"
	TransitionRollback TransitionStep = "rollback"
)

// Transition says for whom, and until when.
type Transition struct {
	Step TransitionStep
	// Device is where it comes from, the zero Prefix everywhere; Service is empty for all.
	Device  netip.Prefix
	Service string
	// Until is when cleartext ends; zero is TransitionTime from now. It is not for TransitionEnd.
	Until time.Time
	// Never lets cleartext go on with no end, as an exception: with TransitionStart.
	Never bool
	// Force ends it although devices have spoken cleartext lately.
	Force bool
}

func (t Transition) who() string {
	device, service := "all devices", "all services"
	if t.Device.IsValid() {
		device = "device " + t.Device.String()
		if t.Device.IsSingleIP() {
			device = "device " + t.Device.Addr().String()
		}
	}
	if t.Service != "" {
		service = "service " + t.Service
	}
	return device + ", " + service
}

// SetTransition changes until when cleartext is taken at a Site, and returns the rule that holds now. The boxes follow by their own clock,
// also when nobody can be reached.
func (c *Coordinator) SetTransition(ctx context.Context, actor, site string, t Transition) (wire.CleartextRule, error) {
	var rule wire.CleartextRule
	err := c.change(ctx, actor, "transition."+string(t.Step), func(tx store.Tx) (string, string, error) {
		s, err := siteNamed(tx, site)
		if err != nil {
			return "", "", err
		}
		if t.Service != "" {
			v, err := serviceNamed(tx, t.Service)
			if err != nil {
				return "", "", err
			}
			t.Service = v.Name
		}
		now := c.stamp().Truncate(time.Second)
		if rule, err = c.transition(tx, s, t, now); err != nil {
			return "", "", err
		}
		next := *s.LANTLS
		next.Cleartext = applyRule(next.Cleartext, rule, t.Step, now)
		if err := provisioning.CheckLANTLS(&next); err != nil {
			return "", "", err
		}
		s.LANTLS = &next
		detail := t.who() + ": cleartext has no end"
		if !rule.Until.IsZero() {
			detail = fmt.Sprintf("%s: cleartext until %s", t.who(), rule.Until.Format(time.RFC3339))
		}
		return s.Name, detail, tx.Sites().Update(s)
	})
	return rule, err
}

// transition works out the rule, or refuses.
func (c *Coordinator) transition(tx store.Tx, s provisioning.Site, t Transition, now time.Time) (wire.CleartextRule, error) {
	rule := wire.CleartextRule{Device: t.Device, Service: t.Service, Until: t.Until.UTC().Truncate(time.Second)}
	if t.Until.IsZero() {
		rule.Until = now.Add(TransitionTime)
	}
	if s.LANTLS == nil || s.LANTLS.DICOMPort == 0 && s.LANTLS.HL7Port == 0 && len(s.LANTLS.Ports) == 0 {
		return rule, provisioning.Errorf(provisioning.Conflict, "site %s takes nothing over TLS yet, so that cleartext cannot end", s.Name).
			WithHint("first \"towpath tls set %s\"", s.Name)
	}
	old := slices.IndexFunc(s.LANTLS.Cleartext, func(r wire.CleartextRule) bool { return r.Device == t.Device && r.Service == t.Service })
	switch t.Step {
	case TransitionEnd:
		rule.Until = now
		return rule, stillCleartext(tx, s, t, now)
	case TransitionStart:
		if t.Never {
			rule.Until = time.Time{}
			return rule, nil
		}
	case TransitionExtend:
		if old < 0 {
			return rule, provisioning.Errorf(provisioning.NotFound, "nothing was started for %s", t.who()).
				WithHint("\"towpath transition show %s\" lists what was, \"towpath transition start\" begins", s.Name)
		}
		if t.Until.IsZero() && s.LANTLS.Cleartext[old].Until.After(now) {
			rule.Until = s.LANTLS.Cleartext[old].Until.Add(TransitionTime)
		}
	case TransitionRollback:
	default:
		return rule, provisioning.Errorf(provisioning.Invalid, "%q is no step of a transition", t.Step).WithHint("start, extend, end or rollback")
	}
	if !rule.Until.After(now) {
		return rule, provisioning.Errorf(provisioning.Invalid, "%s has passed", rule.Until.Format(time.RFC3339)).
			WithHint("choose a time to come, or end it at once with \"towpath transition end\"")
	}
	return rule, nil
}

// applyRule puts a rule in the place of the one for the same. A rollback takes narrower ones away that have ended: it is to bring back all
// that it names.
func applyRule(rules []wire.CleartextRule, rule wire.CleartextRule, step TransitionStep, now time.Time) []wire.CleartextRule {
	var out []wire.CleartextRule
	for _, r := range rules {
		same := r.Device == rule.Device && r.Service == rule.Service
		ended := !r.Until.IsZero() && !now.Before(r.Until)
		if same || step == TransitionRollback && ended && narrower(r, rule) {
			continue
		}
		out = append(out, r)
	}
	out = append(out, rule)
	slices.SortFunc(out, func(a, b wire.CleartextRule) int {
		if c := strings.Compare(a.Device.String(), b.Device.String()); c != 0 {
			return c
		}
		return strings.Compare(a.Service, b.Service)
	})
	return out
}

// narrower reports whether all that r is for, wide is for, too.
func narrower(r, wide wire.CleartextRule) bool {
	inside := !wide.Device.IsValid() || r.Device.IsValid() && r.Device.Bits() >= wide.Device.Bits() && wide.Device.Contains(r.Device.Addr())
	return inside && (wide.Service == "" || r.Service == wide.Service)
}

// stillCleartext refuses an early end while devices still need cleartext.
func stillCleartext(tx store.Tx, s provisioning.Site, t Transition, now time.Time) error {
	if t.Force {
		return nil
	}
	boxes, err := lanBoxes(tx, s.ID)
	if err != nil {
		return err
	}
	var names []string
	for _, b := range boxes {
		for _, d := range b.Devices {
			concerned := (!t.Device.IsValid() || t.Device.Contains(d.Source)) && (t.Service == "" || t.Service == d.Service)
			if concerned && d.Cleartext > 0 && now.Sub(d.LastCleartext) < lately && !d.LastTLS.After(d.LastCleartext) {
				names = append(names, strings.TrimSpace(d.Calling+" "+d.Source.String()))
			}
		}
	}
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	names = slices.Compact(names)
	return provisioning.Errorf(provisioning.Conflict, "%d devices at site %s have spoken cleartext within a week and not gone over to TLS: %s",
		len(names), s.Name, strings.Join(names[:min(len(names), 8)], ", ")).
		WithHint("move them first, or end it all the same with --force")
}
