package health

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// Severity orders Conditions.
type Severity string

// The severities: info is worth knowing, warning means degraded, error means that something the clinic needs does not work.
const (
	Info    Severity = "info"
	Warning Severity = "warning"
	Error   Severity = "error"
)

// Condition is a named health fact. Messages say what is wrong and what to do, and never hold patient data.
type Condition struct {
	Code     string    `json:"code"`
	Severity Severity  `json:"severity"`
	Message  string    `json:"message"`
	Since    time.Time `json:"since"`
}

// Set is the Conditions of one box. It is safe for concurrent use; the zero value is empty and ready.
type Set struct {
	mu sync.Mutex
	m  map[string]Condition
}

// Raise makes a Condition hold. Since stays what it was when the Condition held before, with whatever message. It reports whether
// the Condition is new or its severity or message changed.
func (s *Set) Raise(code string, sev Severity, message string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := Condition{Code: code, Severity: sev, Message: message, Since: now}
	old, held := s.m[code]
	if held {
		c.Since = old.Since
	}
	if s.m == nil {
		s.m = make(map[string]Condition)
	}
	s.m[code] = c
	return c != old
}

// Clear ends a Condition and reports whether it held.
func (s *Set) Clear(code string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, held := s.m[code]
	delete(s.m, code)
	return held
}

// Has reports whether a Condition holds.
func (s *Set) Has(code string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, held := s.m[code]
	return held
}

// Keep clears all Conditions whose code starts with prefix and is not among codes.
func (s *Set) Keep(prefix string, codes []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.m {
		if len(c) >= len(prefix) && c[:len(prefix)] == prefix && !slices.Contains(codes, c) {
			delete(s.m, c)
		}
	}
}

// List returns the Conditions, worst first, then by code.
func (s *Set) List() []Condition {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Condition, 0, len(s.m))
	for _, c := range s.m {
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b Condition) int {
		return cmp.Or(cmp.Compare(rank(b.Severity), rank(a.Severity)), cmp.Compare(a.Code, b.Code))
	})
	return out
}

// Healthy reports whether no Condition of severity warning or error holds.
func (s *Set) Healthy() bool {
	for _, c := range s.List() {
		if c.Severity != Info {
			return false
		}
	}
	return true
}

func rank(s Severity) int {
	switch s {
	case Error:
		return 2
	case Warning:
		return 1
	case Info:
		return 0
	}
	return 0
}
