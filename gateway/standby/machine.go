package standby

import (
	"slices"
	"time"
)

// Defaults of Options.
const (
	DefaultFailures = 2
	DefaultHold     = time.Minute
)

// Options of a Machine. Zero fields are the defaults.
type Options struct {
	// Failures is how many probes in a row must fail before the active gateway is left.
	Failures int
	// Hold is how long a gateway of higher rank must have been healthy without a break before it is used again, and how long after any
	// move no return takes place.
	Hold time.Duration
}

// Why is the reason of a Decision.
type Why string

// The reasons.
const (
	// Stay means that nothing is to be done.
	Stay Why = ""
	// Failed means that the active gateway failed and another is healthy.
	Failed Why = "failed"
	// Returned means that a gateway of higher rank is healthy for long enough.
	Returned Why = "returned"
)

// Verdict is what one probe says of a gateway.
type Verdict int

// The verdicts.
const (
	// Failing means that it does not answer, or does not reach what another one reaches.
	Failing Verdict = iota
	// Unsure means that it answers, and that neither it nor any other reaches anything: it is no reason to leave it, and none to go there.
	Unsure
	// Healthy means that it reaches what any of them reaches.
	Healthy
)

// Decision is what a Machine wants.
type Decision struct {
	// To is the gateway to use; it is the active one if Why is Stay.
	To  string
	Why Why
}

// Machine chooses between the gateways of one center. It does no I/O and reads no clock. It is not safe for concurrent use.
type Machine struct {
	opt    Options
	ranked []string
	seen   map[string]*record
	active string
	moved  time.Time // zero before the first move
}

// record is what probes have said of one gateway.
type record struct {
	fails int       // in a row
	since time.Time // healthy since; zero if the last probe said otherwise or there was none
}

// New returns a Machine for gateways in their order of preference, which must not be empty. Active is the one in use, known from before a restart; if
// it is none of them, the first is.
func New(o Options, ranked []string, active string) *Machine {
	if o.Failures <= 0 {
		o.Failures = DefaultFailures
	}
	if o.Hold <= 0 {
		o.Hold = DefaultHold
	}
	m := &Machine{opt: o, ranked: slices.Clone(ranked), seen: make(map[string]*record, len(ranked)), active: active}
	for _, n := range ranked {
		m.seen[n] = &record{}
	}
	if !slices.Contains(ranked, active) {
		m.active = ranked[0]
	}
	return m
}

// Active is the gateway in use.
func (m *Machine) Active() string { return m.active }

// Observe takes the result of one probe. Gateways it does not know are ignored. The Decision is to be carried out and then confirmed by Moved;
// until that it is repeated, so that a move which failed is tried again. Now must not go back.
func (m *Machine) Observe(gateway string, v Verdict, now time.Time) Decision {
	r := m.seen[gateway]
	switch {
	case r == nil:
	case v == Failing:
		r.fails = min(r.fails+1, m.opt.Failures)
		r.since = time.Time{}
	case v == Unsure:
		*r = record{}
	case r.since.IsZero():
		*r = record{since: now}
	}
	return m.decide(now)
}

// Moved confirms that the services' addresses lead to a gateway now. One that is not known is ignored.
func (m *Machine) Moved(to string, now time.Time) {
	if m.seen[to] != nil && to != m.active {
		m.active, m.moved = to, now
	}
}

func (m *Machine) decide(now time.Time) Decision {
	own := m.seen[m.active]
	switch {
	case own.fails >= m.opt.Failures:
		if to, ok := m.best(func(r *record) bool { return !r.since.IsZero() }); ok {
			return Decision{To: to, Why: Failed}
		}
	case m.moved.IsZero() || now.Sub(m.moved) >= m.opt.Hold:
		steady := func(r *record) bool { return !r.since.IsZero() && now.Sub(r.since) >= m.opt.Hold }
		if to, ok := m.best(steady); ok && slices.Index(m.ranked, to) < slices.Index(m.ranked, m.active) {
			return Decision{To: to, Why: Returned}
		}
	}
	return Decision{To: m.active}
}

// best is the gateway of the highest rank that is fit.
func (m *Machine) best(fit func(*record) bool) (string, bool) {
	i := slices.IndexFunc(m.ranked, func(n string) bool { return fit(m.seen[n]) })
	if i < 0 {
		return "", false
	}
	return m.ranked[i], true
}
