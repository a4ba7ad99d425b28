package path

import (
	"net/netip"
	"slices"
	"time"
)

// rounds are when probes go to all candidates, since the end that sends them began. Later ones find a NAT that the other end's probes have
// opened meanwhile.
var rounds = [...]time.Duration{0, 200 * time.Millisecond, 500 * time.Millisecond, time.Second}

// open begins Opening, or goes to Relayed if there is nowhere to look.
func (m *Machine) open(now time.Time) []Action {
	m.round, m.heard, m.target = 0, false, netip.AddrPort{}
	if len(m.targets()) == 0 {
		m.enter(Relayed, now)
		m.due = time.Time{}
		return nil
	}
	begin := now
	if !m.opened.IsZero() {
		begin = maxTime(begin, m.opened.Add(openGap))
	}
	m.earliest = begin
	if !m.opener {
		begin = begin.Add(Stagger)
	}
	m.enter(Opening, now)
	m.opened, m.due = begin, begin
	m.until = begin.Add(rounds[len(rounds)-1] + grace)
	return m.Tick(now)
}

func (m *Machine) tickOpening(now time.Time) []Action {
	if m.round == len(rounds) {
		if now.Before(m.until) {
			m.due = m.until
			return nil
		}
		return m.fail(now)
	}
	var out []Action
	for _, to := range m.targets() {
		out = append(out, m.ask(now, to, reserve)...)
	}
	m.round++
	if m.round == len(rounds) {
		m.due = m.until
	} else {
		m.due = maxTime(now, m.opened.Add(rounds[m.round]))
	}
	return out
}

// fail ends a search without success.
func (m *Machine) fail(now time.Time) []Action {
	m.failures++
	state := HoldOff
	if m.heard {
		state = Asymmetric
	}
	m.enter(state, now)
	m.due = m.holdUntil(now)
	return nil
}

// validate begins to make sure of a place that has answered.
func (m *Machine) validate(now time.Time, at netip.AddrPort, rtt time.Duration) []Action {
	m.enter(Validating, now)
	m.target, m.targetRTT, m.round = at, rtt, 0
	m.until = now.Add(rounds[len(rounds)-1] + grace)
	m.due = now
	return m.Tick(now)
}

func (m *Machine) tickValidating(now time.Time) []Action {
	if !now.Before(m.until) {
		return m.fail(now)
	}
	if m.round == len(rounds) {
		m.due = m.until
		return nil
	}
	m.due = now.Add(Retry)
	m.round++
	return m.ask(now, m.target, 0)
}

// confirm takes an answer in Validating, the second one from the target. A clearly shorter way takes the place of the one that was found first.
func (m *Machine) confirm(now time.Time, from netip.AddrPort, rtt time.Duration) []Action {
	if from != m.target {
		if rtt < m.targetRTT*4/5 && rtt < m.targetRTT-10*time.Millisecond {
			return m.validate(now, from, rtt)
		}
		return nil
	}
	m.enter(Direct, now)
	m.way, m.rtt, m.loss, m.misses = from, rtt, 0, 0
	m.flights = nil
	m.due = now.Add(Beat)
	return []Action{{Steer: true, To: from}}
}

func (m *Machine) tickDirect(now time.Time) []Action {
	if now.Sub(m.since) >= StableFor {
		m.failures, m.flaps = 0, 0
	}
	if m.flightTo(m.way) != nil {
		m.misses++
		m.loss += (1 - m.loss) / 16
	}
	if m.misses >= Misses {
		out := m.relay()
		m.flaps++
		m.flights = nil
		m.enter(HoldOff, now)
		m.due = m.holdUntil(now)
		return out
	}
	m.due = now.Add(min(max(Retry, 2*m.rtt), slowest))
	return m.ask(now, m.way, 0)
}

// ask sends a Ping if the budget allows, leaving so many of it for others.
func (m *Machine) ask(now time.Time, to netip.AddrPort, leave float64) []Action {
	if !m.questions.take(now, leave) {
		return nil
	}
	p := Probe{Kind: Ping, Sequence: m.next(now)}
	m.flights = append(m.flights, flight{to, p.Sequence, now})
	if len(m.flights) > maxFlights {
		m.flights = slices.Delete(m.flights, 0, 1)
	}
	return []Action{{To: to, Probe: p}}
}

// flightTo is the latest Ping to a place that has no answer yet.
func (m *Machine) flightTo(to netip.AddrPort) *flight {
	for i := range slices.Backward(m.flights) {
		if m.flights[i].to == to {
			return &m.flights[i]
		}
	}
	return nil
}

func (m *Machine) next(now time.Time) uint64 {
	m.sequence = max(m.sequence+1, microseconds(now))
	return m.sequence
}

// floor is when a hold-off may end early: what has flapped is never tried again before.
func (m *Machine) floor() time.Time {
	if m.flaps == 0 {
		return m.since
	}
	return m.since.Add(doubled(m.flaps - 1))
}

// holdUntil is when to try again. Long hold-offs end at multiples of their length, by the clock, so that two ends that began at different
// times meet, and each opens its NAT for the other.
func (m *Machine) holdUntil(now time.Time) time.Time {
	d := doubled(m.failures + m.flaps - 1)
	if d < 8*HoldMin {
		return now.Add(d)
	}
	return maxTime(m.floor(), now.Add(d/2).Truncate(d).Add(d))
}

// doubled is HoldMin times 2^n, at most HoldMax.
func doubled(n int) time.Duration { return min(HoldMin<<min(max(n, 0), 10), HoldMax) }

// bucket holds tokens for Burst probes and gets PerMinute new ones.
type bucket struct {
	tokens float64
	at     time.Time
}

// take uses a token up if more than leave are there.
func (b *bucket) take(now time.Time, leave float64) bool {
	b.tokens = min(Burst, b.tokens+now.Sub(b.at).Minutes()*PerMinute)
	b.at = now
	if b.tokens < leave+1 {
		return false
	}
	b.tokens--
	return true
}

func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
