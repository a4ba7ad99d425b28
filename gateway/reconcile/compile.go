package reconcile

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/filter"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// hubKeepalive keeps the way from the coordinator to this box open through the routers between; 25 s is below the shortest UDP
// time-out commonly met (30 s).
const hubKeepalive = 25 * time.Second

// Local is what the box knows of itself.
type Local struct {
	PrivateKey wgkey.PrivateKey
	// ListenPort is the WireGuard UDP port; 0 lets the system choose.
	ListenPort uint16
	// MTU of the tunnel in bytes; 0 is the default.
	MTU int
	// LANAddress is where LAN listeners bind; the zero value means all local addresses. LANAlso are further addresses, where there is one.
	LANAddress netip.Addr
	LANAlso    []netip.Addr
	// Endpoints holds the address of every host:port in the NetMap that could be resolved.
	Endpoints map[string]netip.AddrPort
}

// Desired is what has to run on the box.
type Desired struct {
	Generation uint64
	// Site is the name of the box's own, for messages.
	Site   string
	Tunnel tunnel.Config
	// Firewall is worked out by the function of that name; it is zero where there is none.
	Firewall filter.Ruleset
	// Listeners are sorted by side and address.
	Listeners []Listener
	// Deliveries are sorted by queue.
	Deliveries []Delivery
	// Inbound is what other gateways may hand over.
	Inbound Inbound
	// Polls are archives that are asked for new studies, sorted by queue.
	Polls []Poll
	// Returns are where acknowledgments of messages go that the Site sent, in the order of the map.
	Returns []Return
	// Looks are what other gateways ask about, in the order of the map.
	Looks []Look
	// LANTLS is how the LAN is protected; nil for cleartext only.
	LANTLS *wire.LANTLS
	// Problems are parts of the map that make no sense by themselves and were left out.
	Problems []Problem
}

// Side is the network a listener is on.
type Side string

// The two sides of a box.
const (
	LAN     Side = "lan"
	Overlay Side = "overlay"
)

// Listener is one TCP port that must accept.
type Listener struct {
	Side     Side
	Address  string
	Protocol wire.Protocol
	// TLS is on the LAN side only.
	TLS    bool
	Routes []Route
	// Allow limits who may connect; empty on the LAN side only, where it means everybody.
	Allow []netip.Prefix
	// Reports are the box's own AE titles, to which archives report storage commitments. DICOM only.
	Reports []string
}

// Route is one Service behind a Listener.
type Route struct {
	Service  string
	AETitle  string
	Receiver string
	Mode     wire.Mode
	// Queue is set for queued Routes, Target and Via for the others.
	Queue  string
	Target string
	Via    Side
	// TLS is how Target is reached, if it is on the LAN; the zero value is in cleartext.
	TLS wire.TLSTarget
	// Folder is set for Routes whose messages become files.
	Folder string
	// HL7 are the options of an HL7 Service. Once is set on the Service's own side of a queued one.
	HL7  wire.HL7Options
	Once bool
	// DICOM are the options of a DICOM Service.
	DICOM wire.DICOMOptions
}

// Delivery empties one queue towards a Service.
type Delivery struct {
	Queue    string
	Service  string
	Protocol wire.Protocol
	AETitle  string
	Target   netip.AddrPort
	// From is the box's own address, which the device takes for it: with another one, connections have to be made anew.
	From netip.Addr
	// LAN is set instead of Target for what goes to host:port of the own Site, Folder for what becomes files.
	LAN, Folder string
	TLS         wire.TLSTarget
	HL7         wire.HL7Options
	DICOM       wire.DICOMOptions
	// Gateway is where the far gateway takes items for the Service, Peer its node and Site where that is; all are zero if there is none of ours. Inbound is set for what
	// other gateways have handed over.
	Gateway netip.AddrPort
	Peer    string
	Site    string
	Inbound bool
	// Limits bound the queue.
	Limits wire.QueueOptions
}

// Return is a queue for acknowledgments to a sender at the Site.
type Return struct {
	// Receiver is that of the Service that takes them.
	Receiver, Queue string
}

// Problem names a part that was left out and why.
type Problem struct {
	Subject string // "service:pacs"
	Message string
}

// Compile is pure: the same map and facts give the same Desired.
func Compile(m wire.NetMap, l Local) (Desired, error) {
	d := Desired{Generation: m.Generation, Site: m.Self.Site}
	t, err := compileTunnel(m, l)
	if err != nil {
		return Desired{}, err
	}
	d.Tunnel = t
	c := compiler{own: t.Addresses, peers: m.Peers, self: m.Self, lan: append([]netip.Addr{l.LANAddress}, l.LANAlso...), lanTLS: m.LANTLS}
	for _, o := range m.Offers {
		c.offer(o)
	}
	for _, u := range m.Uses {
		c.use(u)
	}
	for _, u := range c.taken { // after all cleartext ones, whose ports are older
		c.useTLS(u.use, u.route)
	}
	d.LANTLS = m.LANTLS
	c.inbound(m.Offers)
	d.Inbound = c.in
	c.looks(m)
	d.Looks = c.lookAt
	d.Listeners, d.Deliveries, d.Polls, d.Returns, d.Problems = c.listeners, c.deliveries, c.polls, c.returns, c.problems
	addReports(d.Listeners, m.Uses)
	slices.SortFunc(d.Listeners, func(a, b Listener) int {
		return cmp.Or(cmp.Compare(a.Side, b.Side), cmp.Compare(a.Address, b.Address))
	})
	slices.SortFunc(d.Polls, func(a, b Poll) int { return cmp.Compare(a.Queue, b.Queue) })
	slices.SortFunc(d.Deliveries, func(a, b Delivery) int { return cmp.Compare(a.Queue, b.Queue) })
	return d, nil
}

// addReports lets archives report storage commitments at every DICOM listener to the AE titles by which they are asked.
func addReports(listeners []Listener, uses []wire.Use) {
	var titles []string
	for _, u := range uses {
		if ae := u.DICOM.ProbeAE; u.Protocol == wire.DICOM && ae != "" && !slices.Contains(titles, ae) {
			titles = append(titles, ae)
		}
	}
	slices.Sort(titles)
	for i := range listeners {
		if listeners[i].Protocol == wire.DICOM {
			listeners[i].Reports = titles
		}
	}
}

func compileTunnel(m wire.NetMap, l Local) (tunnel.Config, error) {
	if !within(m.Overlay, m.Self.Address) {
		return tunnel.Config{}, fmt.Errorf("the map gives this box the address %s, which is in no prefix of the plan", m.Self.Address)
	}
	cfg := tunnel.Config{
		PrivateKey: l.PrivateKey, ListenPort: l.ListenPort, MTU: cmp.Or(l.MTU, tunnel.DefaultMTU),
		Addresses: ownAddresses(m),
		Blackhole: m.Overlay,
		Peers: []tunnel.Peer{{
			PublicKey: m.Hub.PublicKey, Endpoint: first(m.Hub.Endpoints, l.Endpoints),
			AllowedIPs: []netip.Prefix{host(m.Hub.Address)}, PersistentKeepalive: hubKeepalive,
		}},
	}
	for _, p := range m.Peers {
		for _, a := range p.AllowedIPs {
			if !within(m.Overlay, a.Addr()) {
				return tunnel.Config{}, fmt.Errorf("the map routes %s to %s, which is in no prefix of the plan", a, p.Site)
			}
		}
		cfg.Peers = append(cfg.Peers, tunnel.Peer{
			PublicKey: p.PublicKey, Next: p.NextKey, Endpoint: way(p, l.Endpoints), Relayed: relayed(p), AllowedIPs: p.AllowedIPs,
			PersistentKeepalive: time.Duration(p.Keepalive) * time.Second,
		})
	}
	cfg.Peers = append(cfg.Peers, sessions(m, l, cfg.Peers)...)
	if err := cfg.Validate(); err != nil {
		return tunnel.Config{}, fmt.Errorf("the map's tunnel: %w", err)
	}
	return cfg, nil
}

// ownAddresses are the box's own one, first because what it dials comes from there, then its former one and those of its Services. One
// that the plan does not have, or a peer has, is left out, and so is what should listen there.
func ownAddresses(m wire.NetMap) []netip.Prefix {
	own := []netip.Prefix{host(m.Self.Address)}
	add := func(a netip.Addr) {
		foreign := a == m.Hub.Address || slices.ContainsFunc(m.Peers, func(p wire.Peer) bool { return within(p.AllowedIPs, a) })
		if within(m.Overlay, a) && !foreign && !slices.Contains(own, host(a)) {
			own = append(own, host(a))
		}
	}
	add(m.Self.Former)
	for _, o := range m.Offers {
		for _, p := range o.Also {
			add(p.Addr())
		}
	}
	return own
}

type compiler struct {
	own        []netip.Prefix
	peers      []wire.Peer
	self       wire.Self
	lan        []netip.Addr
	lanTLS     *wire.LANTLS
	taken      []taken
	listeners  []Listener
	deliveries []Delivery
	polls      []Poll
	in         Inbound
	lookAt     []Look
	returns    []Return
	problems   []Problem
}

func (c *compiler) offer(o wire.Offer) {
	switch {
	case o.Port == 0:
		c.problem(o.Service, "it has no port")
		return
	case len(o.From) == 0:
		c.problem(o.Service, "nobody may use it")
		return
	case !known(o.Protocol):
		c.problem(o.Service, "protocol %q is not known to this build", o.Protocol)
		return
	}
	var allow []netip.Prefix
	for _, s := range o.From {
		allow = append(allow, s.Prefix)
	}
	r := c.offered(o)
	places := []netip.AddrPort{netip.AddrPortFrom(c.self.Address, o.Port)}
	if c.self.Former.IsValid() {
		places = append(places, netip.AddrPortFrom(c.self.Former, o.Port))
	}
	places = append(places, o.Also...)
	for i, p := range places {
		switch {
		case slices.Contains(places[:i], p):
		case p.Port() == 0 || !within(c.own, p.Addr()):
			c.problems = append(c.problems, Problem{Subject: "service:" + o.Service, Message: fmt.Sprintf(
				"service %s is not reached at %s: the plan does not let this box have that address", o.Service, p)})
		default:
			c.listen(Overlay, p.String(), o.Protocol, allow, r)
		}
	}
}

func (c *compiler) use(u wire.Use) {
	switch {
	case u.LANPort == 0:
		c.problem(u.Service, "it has no LAN port")
		return
	case !known(u.Protocol):
		c.problem(u.Service, "protocol %q is not known to this build", u.Protocol)
		return
	case !c.reachable(u.Address.Addr()):
		c.problem(u.Service, "no peer of this box has its address %s", u.Address)
		return
	}
	r := Route{Service: u.Service, AETitle: u.AETitle, Receiver: u.Receiver, Mode: u.Mode, HL7: u.HL7, DICOM: u.DICOM}
	switch u.Mode {
	case wire.Queued:
		r.Queue = QueueName(u.Protocol, u.Service)
		d := Delivery{
			Queue: r.Queue, Service: u.Service, Protocol: u.Protocol, AETitle: u.AETitle, Target: u.Address, From: c.self.Address, HL7: u.HL7, DICOM: u.DICOM, Limits: u.Queue,
		}
		if u.Protocol == wire.DICOM {
			d.Gateway, d.Peer = c.gatewayAt(u.Address.Addr())
			d.Site = u.Site
		}
		c.deliveries = append(c.deliveries, d)
		c.poll(u, r.Queue)
	case wire.PassThrough:
		r.Target, r.Via = u.Address.String(), Overlay
	default:
		c.problem(u.Service, "mode %q is not known to this build", u.Mode)
		return
	}
	for _, addr := range c.lanAddresses(u.LANPort) {
		c.listenLAN(addr, u.Protocol, false, r)
	}
	c.taken = append(c.taken, taken{u, r})
}

// taken is a Use that has a listener.
type taken struct {
	use   wire.Use
	route Route
}

func (c *compiler) listenLAN(addr string, p wire.Protocol, overTLS bool, r Route) {
	c.listen(LAN, addr, p, nil, r)
	for i := range c.listeners {
		if l := &c.listeners[i]; l.Side == LAN && l.Address == addr {
			l.TLS = overTLS
		}
	}
}

// listen adds a Route to the Listener of its address, which several Services of one protocol may share.
func (c *compiler) listen(side Side, addr string, p wire.Protocol, allow []netip.Prefix, r Route) {
	for i := range c.listeners {
		l := &c.listeners[i]
		if l.Side != side || l.Address != addr {
			continue
		}
		if l.Protocol != p || side == Overlay {
			c.problem(r.Service, "its port on %s is taken by %s", addr, l.Routes[0].Service)
			return
		}
		l.Routes = append(l.Routes, r)
		return
	}
	c.listeners = append(c.listeners, Listener{Side: side, Address: addr, Protocol: p, Routes: []Route{r}, Allow: allow})
}

func (c *compiler) problem(service, format string, a ...any) {
	c.problems = append(c.problems, Problem{Subject: "service:" + service, Message: "service " + service + " is left out: " + fmt.Sprintf(format, a...)})
}

func (c *compiler) reachable(a netip.Addr) bool {
	for _, p := range c.peers {
		if slices.ContainsFunc(p.AllowedIPs, func(x netip.Prefix) bool { return x.Contains(a) }) {
			return true
		}
	}
	return false
}

// QueueName is the name of a Service's queue. The protocol comes first because it decides whether order matters, see Ordered.
func QueueName(p wire.Protocol, service string) string { return string(p) + "." + service }

// Ordered reports whether a queue must be delivered strictly in order: HL7 messages must, DICOM objects need not.
func Ordered(queue string) bool { return len(queue) > 4 && queue[:4] == string(wire.HL7)+"." }

func known(p wire.Protocol) bool { return p == wire.DICOM || p == wire.HL7 }

func within(prefixes []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}

func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

func first(names []string, resolved map[string]netip.AddrPort) netip.AddrPort {
	for _, n := range names {
		if ap, ok := resolved[n]; ok {
			return ap
		}
	}
	return netip.AddrPort{}
}
