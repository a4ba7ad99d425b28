package reach

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
)

// Open is a connection or a listener.
type Open interface {
	LocalIP() netip.Addr
	// RemoteIP is the zero value for a listener.
	RemoteIP() netip.Addr
	// Abort ends it at once; its calls fail with err, and never with the end of the stream.
	Abort(err error)
}

// Set holds everything open on a device. The zero value is empty and ready.
type Set struct {
	mu    sync.Mutex
	all   map[Open]struct{}
	reach *Reach // set by Enforce
	ended error  // set by EndAll
}

// Add takes o in, unless it is against the reach enforced last or everything has ended; then the error says so and the caller ends o.
func (s *Set) Add(o Open) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != nil {
		return s.ended
	}
	if err := s.reach.allows(o); err != nil {
		return err
	}
	if s.all == nil {
		s.all = map[Open]struct{}{}
	}
	s.all[o] = struct{}{}
	return nil
}

// Remove takes o out, because it was closed.
func (s *Set) Remove(o Open) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, o)
}

// Enforce aborts what r does not allow, now and when it is added.
func (s *Set) Enforce(r *Reach) {
	s.mu.Lock()
	s.reach = r
	s.mu.Unlock()
	s.abort(r.allows)
}

// EndAll aborts everything with err, now and when it is added.
func (s *Set) EndAll(err error) {
	s.mu.Lock()
	s.ended = err
	s.mu.Unlock()
	s.abort(func(Open) error { return err })
}

func (s *Set) abort(reason func(Open) error) {
	s.mu.Lock()
	ends := map[Open]error{}
	for o := range s.all {
		if err := reason(o); err != nil {
			ends[o] = err
			delete(s.all, o)
		}
	}
	s.mu.Unlock()
	for o, err := range ends { // outside the lock: aborting wakes their users, who come back here
		o.Abort(err)
	}
}

func (r *Reach) allows(o Open) error {
	if r == nil {
		return nil
	}
	if a := o.LocalIP(); !r.isOwn(a) {
		return fmt.Errorf("%w: own address %v was removed from the tunnel", net.ErrClosed, a)
	}
	if a := o.RemoteIP(); a.IsValid() {
		return r.CheckDial(a)
	}
	return nil
}
