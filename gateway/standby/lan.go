package standby

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Times of looks at Services on the LAN. With those of probes a target that is gone is left after LookEvery, LookTimeout, a pause of probes and that
// before the second one: 2.3 s.
const (
	LookEvery   = time.Second
	LookTimeout = 700 * time.Millisecond
)

// Target is a Service of the own Site that others ask about.
type Target struct {
	Service string
	// From are those who may hear of it.
	From []netip.Prefix
	// Key is the same as long as Look looks at the same thing.
	Key string
	// Look connects to the Service once. Nil stands for one that needs no LAN.
	Look func(context.Context) error
}

// LAN looks at Services on the LAN, all the time. It is safe for concurrent use.
type LAN struct {
	mu      sync.Mutex
	looking map[string]*looking
}

// looking is one Service.
type looking struct {
	target Target
	cancel context.CancelFunc
	done   chan struct{}
	up     bool
}

// Set looks at these Services from now on, and at no others.
func (l *LAN) Set(targets []Target) {
	l.mu.Lock()
	defer l.mu.Unlock()
	old := l.looking
	l.looking = make(map[string]*looking, len(targets))
	for _, t := range targets {
		if was := old[t.Service]; was != nil && was.target.Key == t.Key {
			was.target.From = t.From
			l.looking[t.Service] = was
			delete(old, t.Service)
			continue
		}
		l.looking[t.Service] = l.start(t)
	}
	for _, was := range old {
		was.cancel()
	}
}

func (l *LAN) start(t Target) *looking {
	ctx, cancel := context.WithCancel(context.Background())
	v := &looking{target: t, cancel: cancel, done: make(chan struct{}), up: t.Look == nil}
	if t.Look == nil {
		close(v.done)
		return v
	}
	go func() {
		defer close(v.done)
		for {
			next := time.After(LookEvery)
			one, end := context.WithTimeout(ctx, LookTimeout)
			err := t.Look(one)
			end()
			l.mu.Lock()
			v.up = err == nil
			l.mu.Unlock()
			select {
			case <-ctx.Done():
				return
			case <-next:
			}
		}
	}()
	return v
}

// Up are the Services that answer and that a source may use, sorted.
func (l *LAN) Up(source netip.Addr) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	up := []string{}
	for name, v := range l.looking {
		if v.up && slices.ContainsFunc(v.target.From, func(p netip.Prefix) bool { return p.Contains(source) }) {
			up = append(up, name)
		}
	}
	slices.Sort(up)
	return up
}

// Close ends all looking.
func (l *LAN) Close() {
	l.mu.Lock()
	old := l.looking
	l.looking = nil
	l.mu.Unlock()
	for _, v := range old {
		v.cancel()
	}
	for _, v := range old {
		<-v.done
	}
}
