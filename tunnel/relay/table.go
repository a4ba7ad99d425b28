package relay

import (
	"hash/maphash"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/towpath/towpath/tunnel/wgkey"
)

// Action is what is to be done with a packet.
type Action byte

// The actions.
const (
	// Drop: it is for the relay, and goes nowhere.
	Drop Action = iota
	// Own: it is for the device that has the port.
	Own
	// Forward: it goes to Verdict.To as it is.
	Forward
	// Hold: it is an initiation, and one of the two ends is not known to be anywhere. That may be because it has only just begun: the same
	// packet may be tried again after the next Locate, or given up for Verdict.Why.
	Hold
)

// Verdict is what a Table says of a packet.
type Verdict struct {
	Action Action
	To     netip.AddrPort
	Why    Reason
	// Learn says that the sender's address is worth remembering how to answer at.
	Learn bool
	// Look says that somebody may have moved: the device should be asked where its peers are. Anybody can bring this about.
	Look bool
}

// Table decides where packets go. It does no I/O, has no clock and is for one goroutine at a time: its methods are told the time, which must
// not go back. NewTable makes one.
type Table struct {
	limits    Limits
	admission Admission
	own       []*macKey
	members   map[wgkey.PublicKey]*member // by each of their keys
	list      []*member
	doors     []*member // whom plain devices may call
	at        map[netip.AddrPort]*member
	flows     map[route]*flow
	// Every flow is in one of three: callers that nobody has vouched for, initiations of members, sessions.
	unknown, asked, sessions flowList
	// ownNew and ownOld are the indexes of the device itself and where they were last used from; they change places every sessionLife.
	ownNew, ownOld map[uint32]owned
	ownTurn        time.Time
	// others are where peers of the device are that are no members.
	others map[netip.AddrPort]bool

	total          bucket
	work, doorWork bucket // keys tried for members, and for the unknown
	callers        callers
	packets        uint64
	bytes          uint64
	dropped        map[Reason]uint64
	round          uint64
}

// NewTable returns a Table that admits nobody, by which every packet is the device's own.
func NewTable(l Limits) *Table {
	return &Table{
		limits: l.orDefaults(), members: map[wgkey.PublicKey]*member{}, at: map[netip.AddrPort]*member{}, flows: map[route]*flow{},
		unknown: flowList{life: askLife}, asked: flowList{life: askLife}, sessions: flowList{life: sessionLife},
		ownNew: map[uint32]owned{}, ownOld: map[uint32]owned{}, others: map[netip.AddrPort]bool{},
		callers: callers{seed: maphash.MakeSeed()}, dropped: map[Reason]uint64{},
	}
}

// Packet decides about a packet that came from an address. It keeps nothing of p.
func (t *Table) Packet(now time.Time, from netip.AddrPort, p []byte) Verdict {
	t.expire(now)
	m, ok := classify(p)
	if !ok || len(t.list) == 0 {
		return Verdict{Action: Own}
	}
	switch m.kind {
	case initiation:
		return t.initiation(now, from, m, p)
	case response:
		return t.response(now, from, m, p)
	default:
		return t.session(now, from, m, p)
	}
}

// GiveUp counts a packet that was held as dropped.
func (t *Table) GiveUp(why Reason) { t.dropped[why]++ }

func (t *Table) drop(r Reason) Verdict {
	t.dropped[r]++
	return Verdict{Action: Drop}
}

// forward counts a packet and lets it go if the limits of bytes allow. A nil pair is one that is not known yet.
func (t *Table) forward(now time.Time, p *pair, to netip.AddrPort, size int) Verdict {
	if p != nil {
		rate := float64(t.limits.PairBytes)
		if !p.bytes.take(now, float64(size), rate, burstOf(rate)) {
			return t.drop(PairRate)
		}
	}
	rate := float64(t.limits.TotalBytes)
	if !t.total.take(now, float64(size), rate, burstOf(rate)) {
		return t.drop(TotalRate)
	}
	t.packets++
	t.bytes += uint64(size)
	return Verdict{Action: Forward, To: to}
}

// burstOf is a tenth of a second, or a hundred large packets.
func burstOf(rate float64) float64 { return max(rate/10, 150_000) }

func (t *Table) initiation(now time.Time, from netip.AddrPort, m message, p []byte) Verdict {
	if slices.ContainsFunc(t.own, func(k *macKey) bool { return k.fits(p) }) {
		return Verdict{Action: Own, Learn: t.at[from] != nil}
	}
	caller := t.at[from]
	if caller != nil && now.After(caller.until) {
		caller = nil
	}
	callee, why := t.callee(now, caller, p)
	if why == NoPair && caller.Unmanaged { // another one may have its address by now
		caller = nil
		callee, why = t.callee(now, nil, p)
	}
	switch {
	case why == Unknown:
		return Verdict{Action: Hold, Why: why, Look: true}
	case why != "":
		return t.drop(why)
	case callee.at == from || !callee.at.IsValid() || now.After(callee.until):
		return Verdict{Action: Hold, Why: Unreachable, Look: true}
	}
	if f := t.flows[route{callee.at, m.sender}]; f != nil && f.stage == asked && f.from.at == from && f.to.who == callee {
		return t.again(now, f, p)
	}
	f := &flow{from: end{caller, from, m.sender}, to: end{who: callee, at: callee.at}, used: now}
	list := &t.unknown
	if caller != nil {
		f.pair, list = caller.mates[callee], &t.asked
	}
	if why := t.ask(now, f, from); why != "" {
		return t.drop(why)
	}
	v := t.forward(now, f.pair, f.to.at, len(p))
	if v.Action != Forward {
		return v
	}
	f.credit = len(p)
	list.add(f, now)
	t.route(f)
	if f.pair != nil {
		f.pair.asks = append(f.pair.asks, f)
	}
	v.Learn = true
	return v
}

// again forwards an initiation that came twice.
func (t *Table) again(now time.Time, f *flow, p []byte) Verdict {
	v := t.forward(now, f.pair, f.to.at, len(p))
	if v.Action == Forward {
		f.credit += len(p)
	}
	return v
}

// callee finds whom an initiation is for, among those whom the caller may call; a nil caller is unknown.
func (t *Table) callee(now time.Time, caller *member, p []byte) (*member, Reason) {
	rate := float64(t.limits.Work)
	if caller == nil {
		if !t.doorWork.take(now, float64(len(t.doors)), rate/4, rate/4) {
			return nil, Asks
		}
		for _, m := range t.doors {
			if m.fits(p) {
				return m, ""
			}
		}
		return nil, Unknown
	}
	n := float64(len(caller.mates))
	if !caller.work.take(now, n, workPerMate*n+workFloor, workPerMate*4*n+workFloor) || !t.work.take(now, n, rate, rate) {
		return nil, Asks
	}
	for m := range caller.mates {
		if m.fits(p) {
			return m, ""
		}
	}
	return nil, NoPair
}

// ask makes room for an initiation, or says why there is none.
func (t *Table) ask(now time.Time, f *flow, from netip.AddrPort) Reason {
	switch p := f.pair; {
	case !t.free(f.toInitiator(), f):
		return Collision
	case len(t.flows) >= 2*t.limits.Sessions:
		return Full
	case p == nil:
		if t.unknown.size >= maxUnknown {
			return Full
		}
		if !t.callers.take(now, from.Addr()) || !f.to.who.door.take(now, 1, doorPerSecond, doorBurst) {
			return Asks
		}
	default:
		if !p.callsOf(f.from.who).take(now, 1, asksPerSecond, asksBurst) {
			return Asks
		}
		if len(p.asks) >= maxAsks {
			t.remove(p.asks[0])
		}
	}
	return ""
}

func (t *Table) response(now time.Time, from netip.AddrPort, m message, p []byte) Verdict {
	if t.isOwn(m.receiver) {
		return Verdict{Action: Own}
	}
	f := t.flows[route{from, m.receiver}]
	if f == nil || f.toInitiator() != (route{from, m.receiver}) {
		return Verdict{Action: Own, Look: !t.knows(from)}
	}
	if f.stage != asked && f.to.index != m.sender || f.tries >= maxTries {
		return t.drop(Unvouched)
	}
	who := t.vouched(f, p)
	if who == nil {
		f.tries++
		return t.drop(Unvouched)
	}
	if f.credit < len(p) {
		return t.drop(Unproven)
	}
	of := f.to.who.mates[who]
	if f.stage == asked {
		if !t.free(route{f.from.at, m.sender}, f) {
			return t.drop(Collision)
		}
		t.establish(now, f, who, of, m.sender)
	}
	v := t.forward(now, of, f.from.at, len(p))
	if v.Action == Forward {
		f.credit -= len(p)
		v.Learn = true
	}
	return v
}

// vouched is the member for whom a response was made, of those that may have called.
func (t *Table) vouched(f *flow, p []byte) *member {
	if who := f.from.who; who != nil && who.fits(p) {
		return who
	}
	if f.from.who != nil && !f.from.who.Unmanaged {
		return nil
	}
	for mate := range f.to.who.mates {
		if mate.Unmanaged && mate.fits(p) {
			return mate
		}
	}
	return nil
}

// establish makes a session of an initiation.
func (t *Table) establish(now time.Time, f *flow, who *member, of *pair, index uint32) {
	t.remove(f)
	f.pair, f.from.who, f.to.index, f.stage, f.used = of, who, index, answered, now
	if len(of.sessions) >= maxPairSessions {
		oldest := slices.MinFunc(of.sessions, func(a, b *flow) int { return a.used.Compare(b.used) })
		t.remove(oldest)
	}
	of.sessions = append(of.sessions, f)
	t.sessions.add(f, now)
	t.route(f)
}

// session decides about what is part of a session: data and cookies.
func (t *Table) session(now time.Time, from netip.AddrPort, m message, p []byte) Verdict {
	if o, own := t.owns(m.receiver); own {
		v := Verdict{Action: Own}
		if !o.used || o.peer != from {
			// Somebody new, or who has moved: the device will know when it has looked into the packet.
			v.Look = !t.knows(from)
			t.ownNew[m.receiver] = owned{peer: from, used: true}
		}
		return v
	}
	r := route{from, m.receiver}
	f := t.flows[r]
	if f == nil {
		return Verdict{Action: Own, Look: !t.knows(from)}
	}
	if f.stage != asked && r == f.toResponder() {
		if m.kind == transport && f.stage == answered {
			f.stage = open
			t.prove(now, f)
		}
		f.used = now
		return t.forward(now, f.pair, f.to.at, len(p))
	}
	if f.stage == open {
		f.used = now
		return t.forward(now, f.pair, f.from.at, len(p))
	}
	if m.kind != cookie || f.credit < len(p) {
		return t.drop(Unproven)
	}
	v := t.forward(now, f.pair, f.from.at, len(p))
	if v.Action == Forward {
		f.credit -= len(p)
	}
	return v
}

// Counters returns what was done since the Table was made.
func (t *Table) Counters() Counters {
	return Counters{
		Packets: t.packets, Bytes: t.bytes, Dropped: maps.Clone(t.dropped), Members: len(t.list), Located: len(t.at), Sessions: t.sessions.size,
	}
}
