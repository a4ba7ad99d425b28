package spool

import "sync"

// groupSync shares one sync among all who ask for it while another is running, so that n concurrent commits do not cost n syncs of the
// same folder.
type groupSync struct {
	run func() error

	mu      sync.Mutex
	running bool
	next    *syncRound
}

type syncRound struct {
	done chan struct{}
	err  error
}

// do returns the result of a run that began after do was called.
func (g *groupSync) do() error {
	g.mu.Lock()
	if g.next == nil {
		g.next = &syncRound{done: make(chan struct{})}
	}
	round := g.next
	if !g.running {
		g.running = true
		go g.loop()
	}
	g.mu.Unlock()
	<-round.done
	return round.err
}

func (g *groupSync) loop() {
	for {
		g.mu.Lock()
		round := g.next
		g.next = nil
		if round == nil {
			g.running = false
			g.mu.Unlock()
			return
		}
		g.mu.Unlock()
		round.err = g.run()
		close(round.done)
	}
}
