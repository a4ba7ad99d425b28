package gateway

import (
	"context"
	"fmt"
	"io"
	"net/netip"

	"github.com/towpath/towpath/gateway/localapi"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/capture"
	"github.com/towpath/towpath/tunnel/filter"
)

// coordinatorPeer is how a person calls the hub.
const coordinatorPeer = "coordinator"

// FirewallRules implements localapi.Inspector.
func (g *Gateway) FirewallRules(context.Context) (string, error) {
	rules, ok := g.runner.Rules()
	if !ok {
		return "", localapi.ErrNoFirewall
	}
	text, err := filter.Render(rules)
	if err != nil {
		return "", fmt.Errorf("show the rules: %w", err)
	}
	return text, nil
}

// Capture implements localapi.Inspector.
func (g *Gateway) Capture(ctx context.Context, r localapi.CaptureRequest, w io.Writer) (capture.Result, error) {
	if g.opt.Tap == nil {
		return capture.Result{}, fmt.Errorf("%w to look at: this backend shows no packets", localapi.ErrUnknownPeer)
	}
	only, err := peerPrefixes(g.currentMap(), r.Peer)
	if err != nil {
		return capture.Result{}, err
	}
	g.opt.Log.Info("a capture of packet headers begins", "peer", r.Peer, "for", r.For)
	res, err := g.opt.Tap.Capture(ctx, w, capture.Options{For: r.For, Only: only})
	g.opt.Log.Info("the capture has ended", "packets", res.Packets, "missed", res.Missed)
	if err != nil {
		return res, fmt.Errorf("capture: %w", err)
	}
	return res, nil
}

// peerPrefixes are the addresses of a site's nodes, of the coordinator, or what the name says itself. None means all.
func peerPrefixes(m wire.NetMap, name string) (out []netip.Prefix, err error) {
	if name == "" {
		return nil, nil
	}
	if name == coordinatorPeer {
		out = append(out, netip.PrefixFrom(m.Hub.Address, m.Hub.Address.BitLen()))
	}
	for _, p := range m.Peers {
		if p.Site == name || p.Node == name {
			out = append(out, p.AllowedIPs...)
		}
	}
	if a, err := netip.ParseAddr(name); err == nil {
		out = append(out, netip.PrefixFrom(a, a.BitLen()))
	}
	if p, err := netip.ParsePrefix(name); err == nil {
		out = append(out, p.Masked())
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w as %q: \"towpath status\" lists them; an address or a prefix will do, too", localapi.ErrUnknownPeer, name)
	}
	return out, nil
}
