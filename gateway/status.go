package gateway

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/towpath/towpath/gateway/localapi"
	"github.com/towpath/towpath/proxy"
)

// sessionsKept is how many ended sessions a status shows.
const sessionsKept = 50

const probeTimeout = 10 * time.Second

// Status implements localapi.Gateway.
func (g *Gateway) Status(ctx context.Context) localapi.Status {
	g.mu.Lock()
	m, link, generation := g.plan, g.link, g.newest
	g.mu.Unlock()
	link.Applied, link.Generation = g.beat().Applied, generation
	link.Expires = m.Expires
	s := localapi.Status{
		Version: g.opt.Version, Site: m.Self.Site, SiteKind: string(m.Self.SiteKind), Node: m.Self.Node, Kind: string(m.Self.Kind), Address: m.Self.Address, Former: m.Self.Former,
		Healthy: g.health.Healthy(), Conditions: g.health.List(), Coordinator: link,
		Queues: g.opt.Spool.Stats(), Spool: g.usage(), Sessions: g.sessions.list(), Services: g.services(), HL7: g.hl7.Counters.List(), DICOM: g.runner.DICOM(), Polls: g.runner.Polls(), Transfers: g.runner.Transfers(),
		Archives: g.twins.status(m), Commitments: g.runner.Commitments(), Devices: g.devices.List(),
	}
	s.Standby = g.making.keeper.Status()
	s.Firewall, s.Carrier, s.PortMapping = g.firewallStatus(ctx), g.carrierStatus(), g.portMapping()
	dev, err := g.opt.Device.Status(ctx)
	if err != nil {
		g.opt.Log.Warn("the tunnel's status cannot be read", "error", err)
		return s
	}
	sites, quantum := map[string]string{m.Hub.PublicKey.String(): "coordinator"}, map[string]string{}
	for _, p := range m.Peers {
		sites[p.PublicKey.String()] = p.Site
		quantum[p.PublicKey.String()] = g.pairing.describe(p)
		if !p.NextKey.IsZero() {
			sites[p.NextKey.String()] = p.Site + ", next key"
		}
	}
	for _, r := range m.Relays {
		sites[r.PublicKey.String()] = "relay"
	}
	if g.opt.Relay != nil {
		r := g.opt.Relay.Status()
		s.Relay = &r
	}
	s.Tunnel.Backend, s.Tunnel.ListenPort, s.Tunnel.MTU = g.opt.Backend, dev.ListenPort, g.mtu()
	for _, p := range dev.Peers {
		k := p.PublicKey.String()
		s.Tunnel.Peers = append(s.Tunnel.Peers, localapi.Peer{
			Site: sites[k], PublicKey: k, Endpoint: p.Endpoint, LastHandshake: p.LastHandshake, RxBytes: p.RxBytes, TxBytes: p.TxBytes,
			Path: pathStatus(g.opt.Steer, p.PublicKey), PostQuantum: quantum[k],
		})
	}
	slices.SortFunc(s.Tunnel.Peers, func(a, b localapi.Peer) int { return cmp.Compare(a.Site, b.Site) })
	return s
}

func (g *Gateway) services() []localapi.Service {
	var out []localapi.Service
	for _, l := range g.runner.Listeners() {
		for _, r := range l.Spec.Routes {
			out = append(out, localapi.Service{
				Name: r.Service, Side: string(l.Spec.Side), Protocol: string(l.Spec.Protocol), Address: l.Spec.Address,
				AETitle: r.AETitle, Receiver: r.Receiver, Mode: string(r.Mode), Live: len(l.Live), Totals: l.Totals,
			})
		}
	}
	slices.SortFunc(out, func(a, b localapi.Service) int {
		return cmp.Or(cmp.Compare(a.Side, b.Side), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// Probe implements localapi.Gateway: it tries to open a TCP connection inside the tunnel and closes it at once.
func (g *Gateway) Probe(ctx context.Context, r localapi.ProbeRequest) localapi.ProbeResult {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	began := time.Now()
	c, err := g.opt.Device.DialContext(ctx, "tcp", r.Address.String())
	res := localapi.ProbeResult{Reached: err == nil, Took: time.Since(began)}
	if err != nil {
		res.Error = err.Error()
		return res
	}
	_ = c.Close()
	return res
}

// ring keeps the newest ended sessions.
type ring struct {
	mu   sync.Mutex
	next int
	all  []localapi.Session
}

func (r *ring) add(s proxy.Session) {
	x := localapi.Session{
		Listener: s.Listener, Remote: s.Remote, Started: s.Started, Ended: s.Ended, Calling: s.Result.Calling, Called: s.Result.Called,
		Outcome: string(s.Result.Outcome), Detail: s.Result.Detail, Items: s.Result.Items, BytesIn: s.BytesIn, BytesOut: s.BytesOut,
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.all) < sessionsKept {
		r.all = append(r.all, x)
		return
	}
	r.all[r.next] = x
	r.next = (r.next + 1) % sessionsKept
}

func (r *ring) list() []localapi.Session {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := slices.Concat(r.all[r.next:], r.all[:r.next])
	slices.Reverse(out)
	return out
}
