package iface

import (
	"sync/atomic"

	"github.com/towpath/towpath/tunnel/internal/reach"
)

// Sockets opens connections and listeners on one interface. Its methods are safe for concurrent use.
//
// Sockets belong to the network namespace of the thread that calls DialContext or Listen.
type Sockets struct {
	name   string
	open   reach.Set
	reach  atomic.Pointer[reach.Reach]
	closed atomic.Bool
}

// New makes a Sockets for the interface of that name. Nothing can be opened before the first Enforce.
func New(name string) *Sockets { return &Sockets{name: name} }

// Enforce takes what a configuration allows, and ends at once what it no longer allows.
func (s *Sockets) Enforce(can *reach.Reach) {
	s.reach.Store(can)
	s.open.Enforce(can)
}

// End ends everything, now and in future, with reach.ErrClosed.
func (s *Sockets) End() {
	s.closed.Store(true)
	s.open.EndAll(reach.ErrClosed)
}
