package adminapi

import (
	"context"
	"net/http"
	"net/netip"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/coordinator"
	"github.com/towpath/towpath/provisioning/wire"
)

// LANProtection is how a Site's LAN is protected, and who speaks what there.
type LANProtection struct {
	Site   string       `json:"site"`
	Policy *wire.LANTLS `json:"policy,omitempty" doc:"absent for cleartext only"`
	Boxes  []LANBox     `json:"boxes" nullable:"false" doc:"what the site's gateways have reported"`
}

// LANBox is what one gateway tells.
type LANBox struct {
	Node      string           `json:"node"`
	LastSeen  time.Time        `json:"last_seen,omitzero"`
	Authority string           `json:"authority,omitempty" doc:"certificate of the site's own authority, in PEM"`
	Devices   []wire.LANDevice `json:"devices" nullable:"false"`
	More      int              `json:"more,omitempty" doc:"devices that are not told of"`
}

// LANPolicy is how a Site's LAN is to be protected.
type LANPolicy struct {
	Policy *wire.LANTLS `json:"policy,omitempty" doc:"absent for cleartext only; its cleartext rules are not looked at, see the transition"`
}

// NewTransition changes until when cleartext is taken.
type NewTransition struct {
	Step    string    `json:"step" enum:"start,extend,end,rollback"`
	Device  string    `json:"device,omitempty" doc:"address or prefix it comes from; everywhere if absent" example:"192.168.1.40"`
	Service string    `json:"service,omitempty" doc:"all if absent"`
	Until   time.Time `json:"until,omitzero" doc:"when cleartext ends; 14 days from now if absent"`
	Never   bool      `json:"never,omitempty" doc:"no end, as an exception (start)"`
	Force   bool      `json:"force,omitempty" doc:"although devices have spoken cleartext within a week (end)"`
}

type (
	lanPolicyInput struct {
		Site string `path:"site" maxLength:"64" doc:"name or id"`
		Body LANPolicy
	}
	transitionInput struct {
		Site string `path:"site" maxLength:"64" doc:"name or id"`
		Body NewTransition
	}
)

func (s *server) lanTLS() {
	serve(s, s.operation("get-lan-tls", http.MethodGet, "/v1/sites/{site}/lan-tls", "sites", "How a site's LAN is protected, and who speaks what", http.StatusOK),
		func(ctx context.Context, in *sitePath) (LANProtection, error) {
			info, err := s.c.LANTLS(ctx, in.Site)
			v := LANProtection{Site: info.Site, Policy: info.Policy, Boxes: make([]LANBox, 0, len(info.Boxes))}
			for _, b := range info.Boxes {
				v.Boxes = append(v.Boxes, LANBox{
					Node: string(b.Node), LastSeen: b.LastSeen, Authority: b.Authority, Devices: list(b.Devices), More: b.More,
				})
			}
			return v, err
		})
	serveEmpty(s, s.operation("set-lan-tls", http.MethodPut, "/v1/sites/{site}/lan-tls", "sites", "Change how a site's LAN is protected", http.StatusNoContent),
		func(ctx context.Context, in *lanPolicyInput) error {
			return s.c.SetLANTLS(ctx, actorOf(ctx), in.Site, in.Body.Policy)
		})
	serve(s, s.operation("set-transition", http.MethodPost, "/v1/sites/{site}/lan-tls/transition", "sites",
		"Change until when cleartext is taken at a site", http.StatusOK),
		func(ctx context.Context, in *transitionInput) (wire.CleartextRule, error) {
			device, err := parseDevice(in.Body.Device)
			if err != nil {
				return wire.CleartextRule{}, err
			}
			return s.c.SetTransition(ctx, actorOf(ctx), in.Site, coordinator.Transition{
				Step: coordinator.TransitionStep(in.Body.Step), Device: device, Service: in.Body.Service, Until: in.Body.Until,
				Never: in.Body.Never, Force: in.Body.Force,
			})
		})
}

// parseDevice reads an address or a prefix; empty is everywhere.
func parseDevice(text string) (netip.Prefix, error) {
	if text == "" {
		return netip.Prefix{}, nil
	}
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return p, provisioning.Errorf(provisioning.Invalid, "%q is no address and no prefix", text).WithHint("such as 192.168.1.40 or 192.168.1.0/24")
	}
	return p, nil
}

// LANTLS returns how a Site's LAN is protected.
func (c *Client) LANTLS(ctx context.Context, site string) (LANProtection, error) {
	return call[LANProtection](ctx, c, http.MethodGet, path("sites", site, "lan-tls"), nil)
}

// SetLANTLS changes how a Site's LAN is protected, all but its cleartext rules; nil is cleartext only.
func (c *Client) SetLANTLS(ctx context.Context, site string, p *wire.LANTLS) error {
	return c.send(ctx, http.MethodPut, path("sites", site, "lan-tls"), LANPolicy{p})
}

// SetTransition changes until when cleartext is taken at a Site, and returns the rule that holds then.
func (c *Client) SetTransition(ctx context.Context, site string, t NewTransition) (wire.CleartextRule, error) {
	return call[wire.CleartextRule](ctx, c, http.MethodPost, path("sites", site, "lan-tls", "transition"), t)
}
