package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/towpath/towpath/provisioning/wire"
)

// cgnat is shared address space between a provider and its customers (RFC 6598).
var cgnat = netip.MustParsePrefix("100.64.0.0/10")

// names looks up what the plan names by host, and returns the places of the hub.
func (p Patient) names(ctx context.Context) (Finding, []netip.AddrPort) {
	var places []netip.AddrPort
	var good, bad []string
	resolve := func(host string) []netip.Addr {
		if a, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
			return []netip.Addr{a}
		}
		list, err := p.Resolve(ctx, host)
		known := &good
		if err != nil || len(list) == 0 {
			known = &bad
		}
		if !slices.Contains(*known, host) {
			*known = append(*known, host)
		}
		return list
	}
	for _, e := range p.Map.Hub.Endpoints {
		host, port, err := net.SplitHostPort(e)
		n, bad := strconv.ParseUint(port, 10, 16)
		if err != nil || bad != nil {
			continue
		}
		for _, a := range resolve(host) {
			places = append(places, netip.AddrPortFrom(a.Unmap(), uint16(n)))
		}
	}
	for _, u := range p.Map.Hub.URLs {
		if parsed, err := url.Parse(u); err == nil {
			resolve(parsed.Hostname())
		}
	}
	switch {
	case len(bad) > 0 && len(places) == 0:
		return says("names", Failed, "the name %s of the coordinator cannot be looked up, and its address is not known", bad[0]).
			do("give this box a DNS server that works, or have the center put an address into its plan (towpath coordinator init --host ADDRESS)"), nil
	case len(bad) > 0:
		return says("names", Warning, "the name %s cannot be looked up; the box goes on with the addresses that it knows", strings.Join(bad, ", ")).
			do("look at the DNS server of this network"), places
	case len(good) == 0:
		return says("names", OK, "the plan needs no names"), places
	}
	return says("names", OK, "%s can be looked up", strings.Join(good, ", ")), places
}

// uplink says how the way to the hub begins.
func (p Patient) uplink(hub []netip.AddrPort, inner int) Report {
	err := errors.New("the address of the coordinator is not known")
	for _, to := range hub {
		var r Route
		if r, err = p.Route(to); err == nil {
			return p.line(r, to, inner)
		}
	}
	return Report{says("uplink", Failed, "there is no way out of this box: %v", err).do("look at the cable, the address of this box and its router")}
}

func (p Patient) line(r Route, to netip.AddrPort, inner int) Report {
	how := "on " + r.Interface
	if r.Interface == "" {
		how = "somehow"
	}
	list := Report{says("uplink", OK, "this box leaves %s, from %s", how, r.Source)}
	switch {
	case cgnat.Contains(r.Source):
		list = append(list, says("translation", Note, "the provider translates addresses (CGNAT): this box can call and cannot be called, which is all that a clinic needs"))
	case r.Source.IsPrivate():
		list = append(list, says("translation", Note, "a router translates this box's address, as in most places"))
	case r.Source.IsLoopback():
	default:
		list = append(list, says("translation", Note, "this box has a public address"))
	}
	overhead := overhead4
	if to.Addr().Is6() {
		overhead = overhead6
	}
	if need := inner + overhead; inner > 0 && r.MTU > 0 && r.MTU < need {
		list = append(list, says("size", Failed, "the interface takes packets of %d bytes, and the tunnel's need %d: larger ones are lost", r.MTU, need).
			do("start the gateway with --mtu %d, and tell the center to do the same", r.MTU-overhead))
	}
	return list
}

// web says whether the coordinator answers outside of the tunnel, and what it says of this box.
func (p Patient) web(s wire.StandingResponse, err error) Report {
	by := ""
	if p.Proxy != "" {
		by = ", directly or by " + p.Proxy
	}
	if err != nil {
		return Report{says("web", Warning, "the coordinator does not answer on the web%s: %v", by, err).
			do("this is needed for enrolment and for questions when the tunnel is silent: let TCP out to %s, or name a proxy with --proxy", strings.Join(p.Map.Hub.URLs, " or "))}
	}
	list := Report{says("web", OK, "the coordinator answers on the web%s", by)}
	switch s.Standing {
	case wire.StandingActive:
		return append(list, says("standing", OK, "this box belongs to the network"))
	case wire.StandingUnknown:
		return append(list, says("standing", Failed, "this box was removed from the network").do("ask the center for a new token"))
	case wire.StandingQuarantined:
		return append(list, says("standing", Failed, "the center has put this box in quarantine").do("call the center"))
	case wire.StandingReplaced:
		return append(list, says("standing", Failed, "another box has taken the place of this one").do("take this one off the network, or call the center"))
	case wire.StandingWaiting:
		return append(list, says("standing", Warning, "this box waits until somebody at the center agrees to it").do("call the center"))
	}
	return list
}

// clock compares this box's with the coordinator's, which was read somewhere within the time that the question took.
func (p Patient) clock(s wire.StandingResponse, took time.Duration) Finding {
	off := p.Now().Sub(s.Now)
	if off.Abs() > skew+took {
		return says("clock", Failed, "this box's clock is %v off", off.Round(time.Second)).
			do("set it, or turn time synchronization on, or run the gateway with --set-clock; a clock in the past keeps WireGuard from beginning")
	}
	return says("clock", OK, "this box's clock is right")
}

func (t Tunnel) peer(key string) (Peer, bool) {
	i := slices.IndexFunc(t.Peers, func(q Peer) bool { return q.PublicKey == key })
	if i < 0 {
		return Peer{}, false
	}
	return t.Peers[i], true
}

// hub says whether UDP gets through to the coordinator.
func (p Patient) hub(t Tunnel, web bool) Finding {
	h, _ := t.peer(p.Map.Hub.PublicKey.String())
	fresh := !h.LastHandshake.IsZero() && p.Now().Sub(h.LastHandshake) < deadAfter
	if fresh && t.Carried != "" {
		return says("coordinator", Warning, "UDP is dropped on the way; the tunnel is up over %s, slower than it could be", t.Carried).
			do("let UDP out to %s: the box goes back to it by itself", strings.Join(p.Map.Hub.Endpoints, " or "))
	}
	if fresh {
		return says("coordinator", OK, "the tunnel to the coordinator is up, by UDP to %s", h.Endpoint)
	}
	at := strings.Join(p.Map.Hub.Endpoints, " or ")
	if web {
		return says("coordinator", Failed, "the coordinator answers on the web and not by UDP: something between here and there drops UDP").
			do("let UDP out to %s: this network's firewall first, then ask the provider", at)
	}
	return says("coordinator", Failed, "the coordinator does not answer by UDP").do("let UDP out to %s; if nothing else answers either, it may be down: this box goes on with its last plan", at)
}

// peers says how the other sites are reached.
func (p Patient) peers(t Tunnel) Report {
	var list Report
	for _, m := range p.Map.Peers {
		if t.Trial || m.Kind == wire.Workstation || m.Kind == wire.Unmanaged {
			continue
		}
		check := "site " + m.Site
		q, _ := t.peer(m.PublicKey.String())
		if next, ok := t.peer(m.NextKey.String()); ok && next.LastHandshake.After(q.LastHandshake) {
			q = next
		}
		way := fmt.Sprintf("directly, at %s", q.Endpoint)
		switch {
		case len(m.Endpoints) > 0 || len(m.Relays) == 0:
		case q.Direct.IsValid():
			way = fmt.Sprintf("past the relay, directly at %s", q.Direct)
		case q.Steered:
			way = "through the relay: neither end can be called, and no direct way was found so far"
		default:
			way = "through the relay, because neither end can be called"
		}
		if t.Carried != "" {
			way = "through the coordinator, as long as UDP is dropped here"
		}
		switch {
		case !q.LastHandshake.IsZero() && p.Now().Sub(q.LastHandshake) < deadAfter:
			list = append(list, says(check, OK, "it is reached %s", way))
		case len(m.Endpoints) == 0 && len(m.Relays) == 0:
			list = append(list, says(check, Note, "it has to call this one and does not"))
		default:
			at := strings.Join(append(slices.Clone(m.Endpoints), m.Relays...), " or ")
			since := "ever"
			if !q.LastHandshake.IsZero() {
				since = fmt.Sprintf("for %v", p.Now().Sub(q.LastHandshake).Round(time.Second))
			}
			list = append(list, says(check, Failed, "it has not answered %s", since).do("let UDP out to %s, and look whether its gateway runs", at))
		}
	}
	slices.SortStableFunc(list, func(a, b Finding) int { return cmp.Compare(a.Check, b.Check) })
	return list
}

// finding is never a fault: there is the relay.
func (m Mapping) finding() Finding {
	const check = "port mapping"
	switch {
	case m.External.IsValid() && m.Public:
		return says(check, OK, "the router takes packets for this box at %s (%s)", m.External, m.Protocol)
	case m.External.IsValid():
		return says(check, Note, "the router takes packets for this box at %s (%s), which is no address of the internet: another router translates, too", m.External, m.Protocol).
			do("nothing, if the relay will do; otherwise have the outer router pass the port on, or ask the provider for a public address")
	case m.Problem != "":
		return says(check, Note, "there is no port mapping: %s", m.Problem).do("nothing, if the relay will do; otherwise turn on PCP or NAT-PMP in the router")
	}
	return says(check, Note, "the router has not been asked for a port mapping yet")
}
