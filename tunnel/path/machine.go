package path

import (
	"bytes"
	"net/netip"
	"slices"
	"time"

	"github.com/towpath/towpath/tunnel/wgkey"
)

// Times of the machine.
const (
	Stagger   = 250 * time.Millisecond // by which the follower begins later
	Beat      = time.Second            // between probes of a direct way that answers
	Retry     = 200 * time.Millisecond // after which a probe of a direct way counts as unanswered, or two round trips
	HoldMin   = 5 * time.Second        // first hold-off
	HoldMax   = 320 * time.Second      // last hold-off, HoldMin doubled six times
	StableFor = 5 * time.Minute        // in Direct, after which former failures are forgotten
	openGap   = time.Second            // least time between two beginnings of Opening
	grace     = time.Second            // how long Opening waits for answers after its last probe
	openMax   = 5 * time.Second        // longest Opening
	slowest   = 500 * time.Millisecond // longest wait for an answer in Direct
)

// Misses is how many unanswered probes in a row end Direct.
const Misses = 4

// Limits on probes to one peer.
const (
	Burst     = 64
	PerMinute = 120
	reserve   = 8 // of Burst, for the way in use
)

// State is where a Machine is; see the diagram of the package.
type State uint8

// States.
const (
	Relayed State = iota
	Opening
	Validating
	Direct
	Asymmetric
	HoldOff
)

// String returns the word for status displays.
func (s State) String() string {
	return [...]string{"relayed", "opening", "validating", "direct", "asymmetric", "hold-off"}[s]
}

// Action is one thing to do: send Probe to To, or, if Steer is set, send WireGuard's packets to To from now on; there, the zero value means
// the relay.
type Action struct {
	Steer bool
	To    netip.AddrPort
	Probe Probe
}

// Status is what a Machine says about itself.
type Status struct {
	State State
	// Since is when State began.
	Since time.Time
	// Way is the direct address in use; the zero value means the relay.
	Way netip.AddrPort
	// RTT is the round trip of the direct way, smoothed; 0 if none was measured.
	RTT time.Duration
	// Loss is the share of probes of the direct way without an answer, 0 to 1, over about the last 16.
	Loss float64
}

// flight is a Ping that has no answer yet.
type flight struct {
	to       netip.AddrPort
	sequence uint64
	at       time.Time
}

// maxFlights bounds the Pings that are remembered.
const maxFlights = 2 * Burst

// Machine decides by which way one peer is reached. It is not safe for concurrent use. Times that it is given may not go back.
type Machine struct {
	opener bool
	filter Filter
	given  []Candidate
	// learned are the sources of the peer's probes, the latest first.
	learned []netip.AddrPort

	state State
	since time.Time
	due   time.Time // when Tick has something to do; zero for never

	round     int       // of Opening and Validating
	until     time.Time // when Opening ends
	opened    time.Time // when the probes of Opening begin or began
	earliest  time.Time // when they may begin if the peer calls
	heard     bool      // a Ping of the peer came in this Opening
	target    netip.AddrPort
	targetRTT time.Duration

	way, lost       netip.AddrPort
	misses          int
	rtt             time.Duration
	loss            float64
	failures, flaps int

	sequence         uint64
	flights          []flight
	questions, echos bucket
}

// New returns the Machine of one end. The peers' roles follow from their keys.
func New(own, peer wgkey.PublicKey, f Filter, now time.Time) *Machine {
	full := bucket{tokens: Burst, at: now}
	return &Machine{opener: bytes.Compare(own[:], peer[:]) < 0, filter: f, since: now, questions: full, echos: full}
}

// Status reports the machine.
func (m *Machine) Status() Status {
	return Status{State: m.state, Since: m.since, Way: m.way, RTT: m.rtt, Loss: m.loss}
}

// Deadline is when Tick is to be called next; the zero value means never.
func (m *Machine) Deadline() time.Time { return m.due }

// Candidates replaces all candidates but the learned ones. Others than before lead to Opening, unless a direct way has just failed.
func (m *Machine) Candidates(now time.Time, c []Candidate) []Action {
	c = m.filter.Select(c)
	if slices.Equal(c, m.given) {
		return nil
	}
	m.given = c
	m.failures = 0
	switch m.state {
	case Relayed:
		return m.open(now)
	case Asymmetric, HoldOff:
		if !now.Before(m.floor()) {
			return m.open(now)
		}
		m.due = m.floor()
	case Opening, Validating, Direct: // what is under way uses them when it needs them
	}
	return nil
}

// Moved says that an own address has changed: no direct way is known to work any more.
func (m *Machine) Moved(now time.Time) []Action {
	out := m.relay()
	m.flights, m.lost, m.failures = nil, netip.AddrPort{}, 0
	return append(out, m.open(now)...)
}

// Received takes a probe that Channel.Open has let through.
func (m *Machine) Received(now time.Time, from netip.AddrPort, p Probe) []Action {
	from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
	switch p.Kind {
	case Ping:
		return m.ping(now, from, p)
	case Pong:
		return m.pong(now, from, p)
	}
	return nil
}

// ping answers the peer and, if it is at a place from which nothing is expected, looks there.
func (m *Machine) ping(now time.Time, from netip.AddrPort, p Probe) []Action {
	if !m.filter.Allows(from) {
		return nil
	}
	var out []Action
	if m.echos.take(now, 0) {
		out = append(out, Action{To: from, Probe: Probe{Kind: Pong, Sequence: m.next(now), Echo: p.Sequence}})
	}
	m.learn(from)
	switch m.state {
	case Relayed:
		out = append(out, m.open(now)...)
	case Opening:
		out = append(out, m.answerOpening(now, from)...)
	case HoldOff:
		if from != m.lost || !now.Before(m.floor()) {
			out = append(out, m.open(now)...)
		}
	case Direct:
		// The peer is looking for us elsewhere: has it moved?
		if from != m.way && m.misses == 0 && m.flightTo(m.way) == nil {
			m.due = now
			out = append(out, m.Tick(now)...)
		}
	case Validating, Asymmetric:
	}
	return out
}

// answerOpening looks where the peer just was, because the way there is open now.
func (m *Machine) answerOpening(now time.Time, from netip.AddrPort) []Action {
	if now.Before(m.earliest) {
		return nil
	}
	m.heard = true
	var out []Action
	if m.round == 0 { // the follower need not wait any more
		m.due, m.opened = now, now
		out = m.Tick(now)
	}
	if f := m.flightTo(from); f == nil || now.Sub(f.at) >= Retry {
		out = append(out, m.ask(now, from, reserve)...)
	}
	m.until = maxTime(m.until, minTime(now.Add(grace), m.opened.Add(openMax)))
	if m.round == len(rounds) {
		m.due = m.until
	}
	return out
}

func (m *Machine) pong(now time.Time, from netip.AddrPort, p Probe) []Action {
	i := slices.IndexFunc(m.flights, func(f flight) bool { return f.sequence == p.Echo && f.to == from })
	if i < 0 {
		return nil
	}
	rtt := now.Sub(m.flights[i].at)
	m.flights = slices.Delete(m.flights, i, i+1)
	switch m.state {
	case Opening:
		return m.validate(now, from, rtt)
	case Validating:
		return m.confirm(now, from, rtt)
	case Direct:
		if from == m.way {
			m.misses, m.due = 0, now.Add(Beat)
			m.rtt += (rtt - m.rtt) / 8
			m.loss -= m.loss / 16
			m.flights = slices.DeleteFunc(m.flights, func(f flight) bool { return f.to == m.way })
		}
	case Relayed, Asymmetric, HoldOff:
	}
	return nil
}

// Tick does what is due.
func (m *Machine) Tick(now time.Time) []Action {
	if m.due.IsZero() || now.Before(m.due) {
		return nil
	}
	switch m.state {
	case Opening:
		return m.tickOpening(now)
	case Validating:
		return m.tickValidating(now)
	case Direct:
		return m.tickDirect(now)
	case Asymmetric, HoldOff:
		return m.open(now)
	case Relayed:
		m.due = time.Time{}
	}
	return nil
}

func (m *Machine) enter(s State, now time.Time) {
	if m.state != s {
		m.state, m.since = s, now
	}
}

// relay gives up a direct way.
func (m *Machine) relay() []Action {
	if !m.way.IsValid() {
		return nil
	}
	m.lost, m.way = m.way, netip.AddrPort{}
	m.rtt, m.loss, m.misses = 0, 0, 0
	return []Action{{Steer: true}}
}

func (m *Machine) learn(from netip.AddrPort) {
	m.learned = slices.DeleteFunc(m.learned, func(a netip.AddrPort) bool { return a == from })
	m.learned = slices.Insert(m.learned, 0, from)
	m.learned = m.learned[:min(len(m.learned), MaxLearned)]
}

// targets are all places to look for the peer.
func (m *Machine) targets() []netip.AddrPort {
	out := make([]netip.AddrPort, 0, len(m.given)+len(m.learned))
	for _, c := range m.given {
		out = append(out, c.Address)
	}
	for _, a := range m.learned {
		if !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}
