package filter

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"slices"

	"github.com/towpath/towpath/tunnel"
)

// ephemeral is the lowest port that Linux gives to callers by itself (ip_local_port_range, ip(7)).
const ephemeral = 32768

// program is the whole table as data. Render and Kernel make the same of it.
type program struct {
	// id tells programs apart.
	id     string
	sets   []set
	chains []chain
}

// setKind is what a set holds.
type setKind int

const (
	names setKind = iota
	ports
	addrs4 // ranges
	addrs6
	places4 // address and port
	places6
	icmp4
	icmp6
)

// set is a named set; the list that fits its kind is filled.
type set struct {
	name   string
	kind   setKind
	names  []string
	ports  []uint16
	spans  []span
	places []netip.AddrPort
	types  []uint8
}

// hook is where a base chain sits; noHook is a chain that others jump to.
type hook int

const (
	noHook hook = iota
	prerouting
	input
	forward
	postrouting
)

// chain is a list of rules. All base chains come before everybody else's at their hook (priority raw), so that addresses are seen before
// anybody's NAT on the way in, and before masquerading on the way out.
type chain struct {
	name  string
	hook  hook
	rules []rule
}

// verdict is what becomes of a packet that a rule matches.
type verdict int

const (
	accept verdict = iota
	back           // "return"
	drop           // counted
	enter          // "goto" the chain that the rule names: it does not come back
	call           // "jump"
)

type rule struct {
	matches []match
	verdict verdict
	chain   string
	comment string
}

// field is what of a packet is looked at.
type field int

const (
	iif field = iota
	oif
	mark
	saddr4
	daddr4
	saddr6
	daddr6
	dport
	sport
	place4
	place6
	opening // a TCP segment with SYN and without ACK
	icmpType4
	icmpType6
)

// match is one condition. The one of set, name, number and low that fits is used.
type match struct {
	field  field
	not    bool
	set    string
	name   string
	number uint32
	low    uint16 // a port of at least that
}

// The words for what is dropped, which people see.
const (
	whySelf    = "a tunnel inside the tunnel"
	whyOverlay = "an overlay address on another interface"
	whyForeign = "a foreign address in the tunnel"
	whyForward = "forwarding between the tunnel and something else"
	whyPort    = "a clinical port on another interface than the site's"
	whyProxy   = "a proxy's connection outside of its side"
	whyInside  = "what is not offered inside of the tunnel"
)

// compile works out the table of a valid Ruleset.
func compile(r Ruleset) program {
	p := program{sets: compileSets(r)}
	p.chains = []chain{
		{name: "entering", hook: prerouting, rules: entering(r)},
		{name: "arriving", hook: input, rules: []rule{
			{matches: []match{{field: iif, name: "lo"}}, verdict: accept},
			{matches: []match{{field: iif, name: r.Tunnel}}, verdict: enter, chain: "inside"},
			{matches: []match{{field: dport, set: "listening"}}, verdict: call, chain: "from_site"},
		}},
		{name: "passing", hook: forward, rules: []rule{
			{matches: []match{{field: iif, name: r.Tunnel}}, verdict: drop, comment: whyForward},
			{matches: []match{{field: oif, name: r.Tunnel}}, verdict: drop, comment: whyForward},
			{matches: []match{{field: dport, set: "clinical"}}, verdict: call, chain: "from_site"},
		}},
		{name: "leaving", hook: postrouting, rules: leaving(r)},
		{name: "within", rules: []rule{
			{matches: []match{{field: saddr4, not: true, set: "overlay4"}}, verdict: drop, comment: whyForeign},
			{matches: []match{{field: daddr4, not: true, set: "overlay4"}}, verdict: drop, comment: whyForeign},
			{matches: []match{{field: saddr6, not: true, set: "overlay6"}}, verdict: drop, comment: whyForeign},
			{matches: []match{{field: daddr6, not: true, set: "overlay6"}}, verdict: drop, comment: whyForeign},
		}},
		{name: "inside", rules: []rule{
			{matches: []match{{field: place4, set: "open4"}}, verdict: accept},
			{matches: []match{{field: place6, set: "open6"}}, verdict: accept},
			{matches: []match{{field: opening, not: true}}, verdict: accept},
			{matches: []match{{field: icmpType4, set: "icmp4"}}, verdict: accept},
			{matches: []match{{field: icmpType6, set: "icmp6"}}, verdict: accept},
			{verdict: drop, comment: whyInside},
		}},
		site("from_site", iif, saddr4, saddr6, whyPort),
		site("to_site", oif, daddr4, daddr6, whyPort),
		site("proxy_to_site", oif, daddr4, daddr6, whyProxy),
	}
	sum := sha256.Sum256([]byte(p.text()))
	p.id = hex.EncodeToString(sum[:8])
	p.chains[0].rules[0].comment = "rules " + p.id
	return p
}

// compileSets makes the sets.
func compileSets(r Ruleset) []set {
	addresses := func(name string, prefixes, without []netip.Prefix) []set {
		return []set{
			{name: name + "4", kind: addrs4, spans: spans(prefixes, without, true)},
			{name: name + "6", kind: addrs6, spans: spans(prefixes, without, false)},
		}
	}
	open := [2][]netip.AddrPort{}
	for _, a := range sorted(r.Open, netip.AddrPort.Compare) {
		i := 0
		if a.Addr().Is6() {
			i = 1
		}
		open[i] = append(open[i], a)
	}
	return slices.Concat(
		addresses("overlay", r.Overlay, nil), addresses("closed", r.Overlay, r.Keep),
		[]set{
			{name: "clinical", kind: ports, ports: sorted(r.Ports, cmp.Compare)},
			{name: "listening", kind: ports, ports: sorted(slices.Concat(r.Ports, r.Listen), cmp.Compare)},
			{name: "lan", kind: names, names: sorted(r.LAN, cmp.Compare)},
			{name: "shared", kind: names, names: sorted(r.Shared, cmp.Compare)},
		},
		addresses("site", r.Site, nil), addresses("also", r.Also, nil),
		[]set{
			{name: "open4", kind: places4, places: open[0]},
			{name: "open6", kind: places6, places: open[1]},
			// Echo, and errors that path MTU discovery and callers rely on (RFC 792, RFC 4443). No redirects, no advertisements.
			{name: "icmp4", kind: icmp4, types: []uint8{0, 3, 8, 11}},
			{name: "icmp6", kind: icmp6, types: []uint8{1, 2, 3, 4, 128, 129}},
		},
	)
}

// entering sees what comes in, before anybody has translated it.
func entering(r Ruleset) []rule {
	return slices.Concat(
		[]rule{
			{matches: []match{{field: iif, name: "lo"}}, verdict: accept},
			{matches: []match{{field: iif, name: r.Tunnel}}, verdict: enter, chain: "within"},
		},
		overlayRules(saddr4, daddr4, saddr6, daddr6),
		[]rule{{matches: []match{{field: dport, set: "listening"}}, verdict: call, chain: "from_site"}},
	)
}

// leaving sees what goes out, wherever routing sends it. Answers to callers whose router gave them a clinical port are none of ours, so
// that of other programs' packets those count which open a connection or come from a port that callers have.
func leaving(r Ruleset) []rule {
	return slices.Concat(
		[]rule{
			{matches: []match{{field: oif, name: "lo"}}, verdict: accept},
			{matches: []match{{field: mark, number: tunnel.MarkOuter}, {field: oif, name: r.Tunnel}}, verdict: drop, comment: whySelf},
			{matches: []match{{field: mark, number: tunnel.MarkOuter}, {field: daddr4, set: "overlay4"}}, verdict: drop, comment: whySelf},
			{matches: []match{{field: mark, number: tunnel.MarkOuter}, {field: daddr6, set: "overlay6"}}, verdict: drop, comment: whySelf},
			{matches: []match{{field: mark, number: tunnel.MarkLAN}, {field: oif, name: r.Tunnel}}, verdict: drop, comment: whyProxy},
			{matches: []match{{field: oif, name: r.Tunnel}}, verdict: enter, chain: "within"},
			{matches: []match{{field: mark, number: tunnel.MarkInner}}, verdict: drop, comment: whyProxy},
		},
		overlayRules(saddr4, daddr4, saddr6, daddr6),
		[]rule{
			{matches: []match{{field: mark, number: tunnel.MarkLAN}}, verdict: call, chain: "proxy_to_site"},
			{matches: []match{{field: dport, set: "clinical"}, {field: opening}}, verdict: call, chain: "to_site"},
			{matches: []match{{field: dport, set: "clinical"}, {field: sport, low: ephemeral}}, verdict: call, chain: "to_site"},
		},
	)
}

func overlayRules(fields ...field) (out []rule) {
	for _, f := range fields {
		s := "closed4"
		if f == saddr6 || f == daddr6 {
			s = "closed6"
		}
		out = append(out, rule{matches: []match{{field: f, set: s}}, verdict: drop, comment: whyOverlay})
	}
	return out
}

// site is a chain that comes back with what is the Site's own.
func site(name string, dev, a4, a6 field, why string) chain {
	return chain{name: name, rules: []rule{
		{matches: []match{{field: dev, set: "lan"}}, verdict: back},
		{matches: []match{{field: dev, set: "shared"}, {field: a4, set: "site4"}}, verdict: back},
		{matches: []match{{field: dev, set: "shared"}, {field: a6, set: "site6"}}, verdict: back},
		{matches: []match{{field: a4, set: "also4"}}, verdict: back},
		{matches: []match{{field: a6, set: "also6"}}, verdict: back},
		{verdict: drop, comment: why},
	}}
}

func sorted[T comparable](list []T, compare func(a, b T) int) []T {
	s := slices.Clone(list)
	slices.SortFunc(s, compare)
	return slices.Compact(s)
}
