package dicom

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// refusedFor is how long an answer 0122 of the archive is repeated to devices for the same SOP class.
	refusedFor = 24 * time.Hour
	// The bounds of what a Twin remembers beside Capabilities.
	maxRefusedClasses = 256
	maxWantedClasses  = 64
	maxCallersKept    = 8
)

// Twin stands for an archive that is elsewhere: it knows what the archive accepts, so that devices hear from the near gateway what they
// would hear from the archive, also while the line is down. It is safe for concurrent use, and a nil one knows nothing.
type Twin struct {
	service string
	refresh func(ctx context.Context, service string) error
	doubted chan<- struct{}

	mu      sync.Mutex
	caps    *Capabilities
	doubt   string // why what is known may be wrong
	changed TwinChange
	failed  TwinFailure
	refused map[string]time.Time // SOP classes that were answered with 0122
	wanted  []string             // SOP classes that came up and were never asked for
	callers []string             // calling AE titles that the archive has accepted, newest first
	turned  TurnedAway
}

// TwinChange is the last change of what an archive accepts.
type TwinChange struct {
	At time.Time `json:"at,omitzero"`
	// From and To name the software; Lost and Gained count pairs of SOP class and transfer syntax.
	From   string `json:"from,omitempty"`
	To     string `json:"to,omitempty"`
	Lost   int    `json:"lost,omitempty"`
	Gained int    `json:"gained,omitempty"`
}

// TwinFailure is why an archive could not be asked; zero after a success.
type TwinFailure struct {
	At     time.Time `json:"at,omitzero"`
	Reason string    `json:"reason,omitempty"`
	Tries  int       `json:"tries,omitempty"`
}

// TurnedAway is the last device of which no presentation context for storage was accepted because the archive takes none of them.
type TurnedAway struct {
	At      time.Time `json:"at,omitzero"`
	Calling string    `json:"calling,omitempty"`
	Reason  string    `json:"reason,omitempty"`
	Count   int       `json:"count,omitempty"`
}

// TwinStatus is a Twin for a person.
type TwinStatus struct {
	Service string `json:"service"`
	// Probed is when the archive was asked; zero for never.
	Probed    time.Time `json:"probed,omitzero"`
	CallingAE string    `json:"calling_ae,omitempty"`
	Software  string    `json:"software,omitempty"`
	// Classes counts the storage SOP classes that it takes, Pairs those of class and transfer syntax.
	Classes int `json:"classes"`
	Pairs   int `json:"pairs"`
	// Commitment says that it offers storage commitment.
	Commitment bool        `json:"commitment,omitempty"`
	Doubt      string      `json:"doubt,omitempty"`
	Change     TwinChange  `json:"change,omitzero"`
	Failure    TwinFailure `json:"failure,omitzero"`
	TurnedAway TurnedAway  `json:"turned_away,omitzero"`
	// Refused are SOP classes that the archive accepts by their context and then answers with 0122.
	Refused []string `json:"refused,omitempty"`
}

// Capabilities returns what is known; nil is nothing. They do not change.
func (t *Twin) Capabilities() *Capabilities {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.caps
}

// Status describes t.
func (t *Twin) Status() TwinStatus {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := TwinStatus{Service: t.service, Doubt: t.doubt, Change: t.changed, Failure: t.failed, TurnedAway: t.turned}
	if c := t.caps; c != nil {
		s.Probed, s.CallingAE, s.Software, s.Commitment = c.Probed, c.CallingAE, c.Software(), c.Commits()
		s.Classes, s.Pairs = c.Taken()
	}
	for class, at := range t.refused {
		if time.Since(at) < refusedFor {
			s.Refused = append(s.Refused, class)
		}
	}
	slices.Sort(s.Refused)
	return s
}

// Set takes what was found out and notes what of it is new.
func (t *Twin) Set(c *Capabilities) {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.caps
	t.caps, t.doubt, t.failed = c, "", TwinFailure{}
	t.wanted = slices.DeleteFunc(t.wanted, func(class string) bool { _, asked := c.Classes[class]; return asked })
	if old == nil {
		return
	}
	if old.Software() != c.Software() {
		clear(t.refused)
	}
	ch := TwinChange{At: c.Probed, From: old.Software(), To: c.Software(), Lost: old.Lost(c), Gained: c.Lost(old)}
	if ch.From != ch.To || ch.Lost+ch.Gained > 0 {
		t.changed = ch
	}
}

// Fail notes that the archive could not be asked.
func (t *Twin) Fail(err error, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failed = TwinFailure{At: now, Reason: err.Error(), Tries: t.failed.Tries + 1}
}

var errNoRefresh = errors.New("nobody here can ask the archive")

// Refresh asks anew and returns what came of it.
func (t *Twin) Refresh(ctx context.Context) error {
	if t.refresh == nil {
		return errNoRefresh
	}
	return t.refresh(ctx, t.service)
}

// Wanted returns the SOP classes that came up and were never asked for, and Callers the calling AE titles that the archive is known to
// accept, newest first.
func (t *Twin) Wanted() []string { t.mu.Lock(); defer t.mu.Unlock(); return slices.Clone(t.wanted) }

// Callers returns the calling AE titles that the archive is known to accept, newest first.
func (t *Twin) Callers() []string { t.mu.Lock(); defer t.mu.Unlock(); return slices.Clone(t.callers) }

// suspect notes why what is known may be wrong, and wakes whoever asks.
func (t *Twin) suspect(format string, a ...any) {
	t.mu.Lock()
	first := t.doubt == "" && t.caps != nil
	if first {
		t.doubt = fmt.Sprintf(format, a...)
	}
	t.mu.Unlock()
	if first {
		t.wake()
	}
}

func (t *Twin) wake() {
	select {
	case t.doubted <- struct{}{}:
	default: // somebody is on the way
	}
}

// want notes a SOP class that nobody asked for.
func (t *Twin) want(classes ...string) {
	t.mu.Lock()
	added := false
	for _, class := range classes {
		if IsStorageClass(class) && !slices.Contains(t.wanted, class) && len(t.wanted) < maxWantedClasses {
			t.wanted, added = append(t.wanted, class), true
		}
	}
	t.mu.Unlock()
	if added {
		t.suspect("a SOP class came up that the archive was not asked for")
	}
}

// caller notes a calling AE title that the archive has accepted.
func (t *Twin) caller(ae string) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.callers = slices.DeleteFunc(t.callers, func(o string) bool { return o == ae })
	t.callers = slices.Insert(t.callers, 0, ae)
	t.callers = t.callers[:min(len(t.callers), maxCallersKept)]
}

// met compares the software of an association with that of the last probe.
func (t *Twin) met(class, version string) {
	c := t.Capabilities()
	if c != nil && (c.ImplementationClass != printable(class) || c.ImplementationVersion != printable(version)) {
		t.suspect("the archive's software has changed")
	}
}

// proposed compares the fate of a presentation context at the archive with what is known.
func (t *Twin) proposed(k kind, accepted bool) {
	switch v := t.Capabilities().judge(k); {
	case v == notAsked && t.Capabilities() != nil:
		t.want(k.class)
	case v == taken && !accepted:
		t.suspect("the archive refused a SOP class or transfer syntax that it had accepted")
	case v != taken && v != notAsked && accepted:
		t.suspect("the archive accepted a SOP class or transfer syntax that it had refused")
	}
}

// answered notes whether the archive answered a C-STORE with 0122.
func (t *Twin) answered(class string, notSupported bool) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, known := t.refused[class]; !notSupported {
		if known {
			delete(t.refused, class)
		}
		return
	}
	if len(t.refused) < maxRefusedClasses {
		t.refused[class] = time.Now()
	}
}

// refuses returns why an object of this kind must not be taken for the archive, empty for none.
func (t *Twin) refuses(k kind) string {
	if t == nil {
		return ""
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if at, known := t.refused[k.class]; known && time.Since(at) < refusedFor {
		return "the archive answers 0122 to this SOP class"
	}
	switch t.caps.judge(k) {
	case classRefused:
		return "the archive does not take this SOP class"
	case syntaxRefused:
		return "the archive does not take this transfer syntax"
	default:
		return ""
	}
}

// turnAway notes a device that could store nothing, and returns the sentence for an operator.
func (t *Twin) turnAway(calling string, kinds []kind) string {
	c := t.Capabilities()
	var what []string
	for _, k := range kinds[:min(len(kinds), 3)] {
		what = append(what, fmt.Sprintf("SOP class %s in transfer syntax %s", k.class, k.syntax))
	}
	if len(kinds) > len(what) {
		what = append(what, fmt.Sprintf("%d more", len(kinds)-len(what)))
	}
	reason := fmt.Sprintf("%s offered only what the archive of %s does not take (as of %s): %s. Have the archive's administrator enable it, "+
		"set the device to another kind or compression, or let the gateway hold such objects (towpath service set %s --hold)",
		printable(calling), t.service, c.Probed.UTC().Format(time.RFC3339), strings.Join(what, "; "), t.service)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.turned = TurnedAway{At: time.Now(), Calling: printable(calling), Reason: reason, Count: t.turned.Count + 1}
	return reason
}

// Twins are all of a gateway, by service. It is safe for concurrent use.
type Twins struct {
	refresh func(ctx context.Context, service string) error
	doubted chan struct{}

	mu  sync.Mutex
	all map[string]*Twin
}

// NewTwins returns Twins that know nothing. Refresh asks for one service and calls Set or Fail; it may be nil.
func NewTwins(refresh func(ctx context.Context, service string) error) *Twins {
	return &Twins{refresh: refresh, doubted: make(chan struct{}, 1), all: map[string]*Twin{}}
}

// Doubted receives when a Twin may be wrong.
func (ts *Twins) Doubted() <-chan struct{} { return ts.doubted }

// Of returns the Twin of a service, which is made if there is none. That of nil Twins is nil.
func (ts *Twins) Of(service string) *Twin {
	if ts == nil {
		return nil
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t := ts.all[service]
	if t == nil {
		t = &Twin{service: service, refresh: ts.refresh, doubted: ts.doubted, refused: map[string]time.Time{}}
		ts.all[service] = t
	}
	return t
}

// Keep forgets the Twins of all services but these.
func (ts *Twins) Keep(services []string) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	for name := range ts.all {
		if !slices.Contains(services, name) {
			delete(ts.all, name)
		}
	}
}

// Snapshot returns what is known, for the disk; what nothing is known of is left out.
func (ts *Twins) Snapshot() map[string]*Capabilities {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	out := make(map[string]*Capabilities, len(ts.all))
	for name, t := range ts.all {
		if c := t.Capabilities(); c != nil {
			out[name] = c
		}
	}
	return out
}
