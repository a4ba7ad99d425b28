package gateway

import (
	"net/netip"
	"time"

	"github.com/towpath/towpath/gateway/health"
	"github.com/towpath/towpath/gateway/localapi"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/carrier"
)

// codeCarried holds while UDP is blocked, whether that is made up for or not.
const codeCarried = "udp-blocked"

// aim tells the carrier where the coordinator is.
func (g *Gateway) aim(m wire.NetMap, endpoints map[string]netip.AddrPort) {
	if g.opt.Carrier == nil {
		return
	}
	var t carrier.Target
	for _, e := range m.Hub.Endpoints {
		if a, ok := endpoints[e]; ok {
			t.Hub = a
			break
		}
	}
	dial := carrier.Dialer{Mark: tunnel.MarkOuter, Barred: func() []netip.Prefix { return g.currentMap().Overlay }}
	for _, l := range g.opt.Ways.Lines(m.Hub.URLs, dial.DialContext) {
		t.Routes = append(t.Routes, carrier.Route{How: l.How, Host: l.Host, Open: l.Open})
	}
	g.opt.Carrier.Aim(t)
}

// observeCarrier tells a person that UDP is blocked.
func (g *Gateway) observeCarrier(now time.Time) {
	if g.opt.Carrier == nil {
		return
	}
	switch s := g.opt.Carrier.Status(); {
	case s.Carried:
		g.health.Raise(codeCarried, health.Info, "UDP is blocked here: carried over "+s.How+" since "+s.Since.UTC().Format(time.RFC3339)+
			". It works, and is slower: let UDP out to the coordinator", now)
	case s.Problem != "":
		g.health.Raise(codeCarried, health.Warning, "the coordinator does not answer by UDP, and being carried over TCP does not work: "+s.Problem, now)
	default:
		g.health.Clear(codeCarried)
	}
}

// withoutCarrier says what would help where the backend carries nothing.
func (g *Gateway) withoutCarrier() string {
	if g.opt.Carrier != nil {
		return ""
	}
	return " Without UDP it works with --backend userspace, which can be carried over TCP; the kernel's WireGuard cannot."
}

// carrierStatus is nil where nothing can be carried.
func (g *Gateway) carrierStatus() *localapi.Carrier {
	if g.opt.Carrier == nil {
		return nil
	}
	s := g.opt.Carrier.Status()
	return &localapi.Carrier{Carried: s.Carried, Since: s.Since, How: s.How, Problem: s.Problem, Dropped: s.Dropped}
}
