package dicom

import (
	"slices"
	"time"

	"github.com/towpath/towpath/proxy/spool"
)

// Patience says when an object that fails again and again is parked, although each failure alone could pass. Many archives answer
// A700 to whatever they do not like, and some abort the association on it. A zero field means its default.
type Patience struct {
	// Tries and Span are for an object that fails while others are delivered: it is parked when it has failed that often, for that
	// long. Defaults 10 and 1 h.
	Tries int
	Span  time.Duration
	// AloneTries and AloneSpan are for an object that is refused by status while nothing else is delivered either: a full archive may
	// need a weekend. Defaults 50 and 72 h. Broken connections alone never park anything.
	AloneTries int
	AloneSpan  time.Duration
}

func (p Patience) withDefaults() Patience {
	def := Patience{Tries: 10, Span: time.Hour, AloneTries: 50, AloneSpan: 72 * time.Hour}
	if p.Tries <= 0 {
		p.Tries = def.Tries
	}
	if p.Span <= 0 {
		p.Span = def.Span
	}
	if p.AloneTries <= 0 {
		p.AloneTries = def.AloneTries
	}
	if p.AloneSpan <= 0 {
		p.AloneSpan = def.AloneSpan
	}
	return p
}

// maxStrikes bounds the failing items that are counted, at about 200 bytes each.
const maxStrikes = 8192

// strike is how an item has failed so far.
type strike struct {
	tries    int
	answered bool // the last time by a status
	first    time.Time
	passed   uint64 // deliveries when it failed first
	reason   string // the last one, without patient data
}

// over reports whether patience has ended.
func (s strike) over(p Patience, delivered uint64, now time.Time) bool {
	span := now.Sub(s.first)
	if delivered > s.passed {
		return s.tries >= p.Tries && span >= p.Span
	}
	return s.answered && s.tries >= p.AloneTries && span >= p.AloneSpan
}

// strike counts a failure that may be the object's own fault.
func (l *Ledger) strike(id spool.ID, reason string, answered bool, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, ok := l.strikes[id]
	if !ok {
		if len(l.strikes) >= maxStrikes {
			for other := range l.strikes { // any: it is counted anew
				delete(l.strikes, other)
				break
			}
		}
		s = strike{first: now, passed: l.counts.Delivered}
	}
	s.tries, s.reason, s.answered = s.tries+1, reason, answered
	l.strikes[id] = s
}

// lost returns how an item has failed if patience with it has ended.
func (l *Ledger) lost(id spool.ID, p Patience, now time.Time) (strike, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, ok := l.strikes[id]
	return s, ok && s.over(p, l.counts.Delivered, now)
}

// holder is an item that failed and comes again: later items with the same UID wait for it.
type holder struct {
	id    spool.ID
	until time.Time
}

const (
	firstSweep = 1024
	// maxHeld bounds the items that others wait for, at about 100 bytes each. Beyond it order is only that of the spool.
	maxHeld = 64 << 10
)

// hold notes that an item comes again before until, when it still exists.
func (l *Ledger) hold(object objectKey, id spool.ID, until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := l.held[object]
	if i := slices.IndexFunc(list, func(h holder) bool { return h.id == id }); i >= 0 {
		list[i].until = until
		return
	}
	if l.holding >= l.sweepAt {
		l.sweepLocked(time.Now())
	}
	if l.holding < maxHeld {
		l.held[object] = append(l.held[object], holder{id: id, until: until})
		l.holding++
	}
}

func (l *Ledger) sweepLocked(now time.Time) {
	for object, list := range l.held {
		left := slices.DeleteFunc(list, func(h holder) bool { return !now.Before(h.until) })
		l.holding -= len(list) - len(left)
		if len(left) == 0 {
			delete(l.held, object)
		} else {
			l.held[object] = left
		}
	}
	l.sweepAt = max(firstSweep, 2*l.holding)
}

// mustWait reports whether an earlier item with the same UID is still on its way.
func (l *Ledger) mustWait(object objectKey, id spool.ID, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.held[object], func(h holder) bool { return h.id < id && now.Before(h.until) })
}

func (l *Ledger) releaseLocked(id spool.ID, object objectKey) {
	list := l.held[object]
	left := slices.DeleteFunc(list, func(h holder) bool { return h.id == id })
	l.holding -= len(list) - len(left)
	if len(left) == 0 {
		delete(l.held, object)
	} else {
		l.held[object] = left
	}
}
