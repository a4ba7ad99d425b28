package gateway

import (
	"context"
	"net/netip"
	"slices"

	"github.com/towpath/towpath/gateway/localapi"
	"github.com/towpath/towpath/tunnel/portmap"
)

// newPortmap keeps a port of the router at router, which must not be in the plan; nil if none is wanted or nothing looks for direct ways.
func (g *Gateway) newPortmap() *portmap.Keeper {
	if g.opt.Router == nil || g.opt.Steer == nil {
		return nil
	}
	return portmap.New(portmap.Options{
		Router: func() netip.AddrPort {
			at := g.opt.Router()
			if slices.ContainsFunc(g.currentMap().Overlay, func(p netip.Prefix) bool { return p.Contains(at.Addr()) }) {
				return netip.AddrPort{}
			}
			return at
		},
		Port: func(ctx context.Context) uint16 {
			st, err := g.opt.Device.Status(ctx)
			if err != nil {
				return 0
			}
			return st.ListenPort
		},
		Log: g.opt.Log,
	})
}

// mapped is where peers may try the router's mapping; zero if there is none or it is not on the internet.
func (g *Gateway) mapped() netip.AddrPort {
	if g.portmap == nil {
		return netip.AddrPort{}
	}
	if m := g.portmap.Mapping(); m.Public() {
		return m.External
	}
	return netip.AddrPort{}
}

// portMapping is nil where none is asked for.
func (g *Gateway) portMapping() *localapi.PortMapping {
	if g.portmap == nil {
		return nil
	}
	m := g.portmap.Mapping()
	out := &localapi.PortMapping{External: m.External, Protocol: m.Protocol, Public: m.Public(), Expires: m.Expires}
	if m.Err != nil {
		out.Problem = m.Err.Error()
	}
	return out
}
