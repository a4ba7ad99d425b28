package hl7

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// Counts are what happened to the messages of one Service since its gateway started. They hold numbers and times only.
type Counts struct {
	Service string `json:"service"`
	// Duplicates were taken before and not delivered again, Reused had the control ID of another message of their sender.
	Duplicates uint64 `json:"duplicates"`
	Reused     uint64 `json:"control_id_reused"`
	// Refused were answered negatively by the receiver and wait in the queue, RefusedLate were refused by the application after they had
	// been taken.
	Refused     uint64 `json:"refused"`
	RefusedLate uint64 `json:"refused_late"`
	// Returned acknowledgments went back to the sender's site, Unreturned had no way to.
	Returned   uint64 `json:"acknowledgments_returned"`
	Unreturned uint64 `json:"acknowledgments_without_way_back"`
	// Unfiled are attempts to write to a folder that failed.
	Unfiled uint64 `json:"unfiled"`
	// Fragments are beginnings of messages whose sender started again.
	Fragments uint64 `json:"fragments"`

	LastDuplicate   time.Time `json:"last_duplicate,omitzero"`
	LastReused      time.Time `json:"last_control_id_reused,omitzero"`
	LastRefusedLate time.Time `json:"last_refused_late,omitzero"`
	LastUnfiled     time.Time `json:"last_unfiled,omitzero"`
}

// Counters hold the Counts of all Services. They are safe for concurrent use; a nil pointer counts nothing.
type Counters struct {
	mu sync.Mutex
	m  map[string]*Counts
}

func (c *Counters) count(service string, f func(*Counts)) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil {
		c.m = map[string]*Counts{}
	}
	n := c.m[service]
	if n == nil {
		n = &Counts{Service: service}
		c.m[service] = n
	}
	f(n)
}

// List returns the Counts of all Services for which something was counted, by name.
func (c *Counters) List() []Counts {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]Counts, 0, len(c.m))
	for _, n := range c.m {
		out = append(out, *n)
	}
	slices.SortFunc(out, func(a, b Counts) int { return cmp.Compare(a.Service, b.Service) })
	return out
}
