package gateway

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/towpath/towpath/gateway/control"
	"github.com/towpath/towpath/gateway/doctor"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// Doctor implements localapi.Gateway.
func (g *Gateway) Doctor(ctx context.Context) doctor.Report {
	g.mu.Lock()
	own := g.keys.own
	g.mu.Unlock()
	return Examine(ctx, g.currentMap(), own, g.opt.Ways, func(ctx context.Context) (doctor.Tunnel, error) {
		st, err := g.opt.Device.Status(ctx)
		t := DoctorTunnel(g.opt.Backend, g.mtu(), st)
		for i, p := range st.Peers {
			if way := pathStatus(g.opt.Steer, p.PublicKey); way != nil {
				t.Peers[i].Steered, t.Peers[i].Direct = true, way.Direct
			}
		}
		if c := g.carrierStatus(); c != nil && c.Carried {
			t.Carried = c.How
		}
		if m := g.portMapping(); m != nil {
			t.Mapping = &doctor.Mapping{External: m.External, Protocol: m.Protocol, Public: m.Public, Problem: m.Problem}
		}
		return t, err
	})
}

// DoctorTunnel is what a device says, as package doctor takes it.
func DoctorTunnel(backend string, mtu int, st tunnel.Status) doctor.Tunnel {
	t := doctor.Tunnel{Backend: backend, MTU: mtu}
	for _, p := range st.Peers {
		t.Peers = append(t.Peers, doctor.Peer{PublicKey: p.PublicKey.String(), Endpoint: p.Endpoint, LastHandshake: p.LastHandshake})
	}
	return t
}

// Examine explains the way of a box to its network, with the machine's own routes, names and clock. It works without a Gateway, too.
func Examine(ctx context.Context, m wire.NetMap, own wgkey.PublicKey, ways control.Ways, ask func(context.Context) (doctor.Tunnel, error)) doctor.Report {
	p := doctor.Patient{
		Map: m, Route: doctor.SystemRoute, Now: time.Now, Tunnel: ask,
		Resolve: func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		},
		Ask: func(ctx context.Context) (wire.StandingResponse, error) {
			if len(m.Hub.URLs) == 0 || len(m.Hub.Seal) == 0 {
				return wire.StandingResponse{}, errors.New("the plan names no address for that")
			}
			return question(m, own, ways).AskAtOnce(ctx)
		},
	}
	if !ways.Proxy.IsZero() {
		p.Proxy = ways.Proxy.String()
	}
	return doctor.Examine(ctx, p)
}
