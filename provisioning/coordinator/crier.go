package coordinator

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/towpath/towpath/provisioning"
)

// crier waits for new generations as long as anybody watches, has their pictures made, and wakes the watchers whose maps may have changed,
// and nobody else: one change costs nothing for those whom it does not concern, however many they are.
type crier struct {
	mu sync.Mutex
	of map[provisioning.NodeID][]*watcher
	// count is how many there are; stop ends the goroutine that waits, nil when there is none.
	count int
	stop  context.CancelFunc
	// cried is the generation that all who were to be woken were woken for.
	cried uint64
	// calls is how many were woken for a map that is there and have not sent it yet; idle is closed when there are none.
	calls int
	idle  chan struct{}
	// later has the second step taken that nobody asks for, nil when there is none to be taken.
	later *time.Timer
}

// watcher is one stream.
type watcher struct {
	id provisioning.NodeID
	// wake holds one signal: to look at the picture there is, or at err.
	wake chan struct{}
	// err ends the stream. The crier's mu guards it.
	err error
	// called is set from the wake to the next wait. The crier's mu guards it.
	called bool
	// mail is set when there are messages that the stream has not told of. The crier's mu guards it.
	mail bool
}

// join adds a watcher. The caller calls part. What happens after it has returned is not missed.
func (c *Coordinator) join(id provisioning.NodeID) *watcher {
	w := &watcher{id: id, wake: make(chan struct{}, 1)}
	k := &c.crier
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.of == nil {
		k.of = map[provisioning.NodeID][]*watcher{}
	}
	k.of[id] = append(k.of[id], w)
	if k.count++; k.stop == nil {
		var ctx context.Context
		ctx, k.stop = context.WithCancel(context.Background())
		go c.cry(ctx)
	}
	return w
}

func (c *Coordinator) part(w *watcher) {
	k := &c.crier
	k.mu.Lock()
	defer k.mu.Unlock()
	k.done(w)
	k.of[w.id] = slices.DeleteFunc(k.of[w.id], func(o *watcher) bool { return o == w })
	if len(k.of[w.id]) == 0 {
		delete(k.of, w.id)
	}
	if k.count--; k.count == 0 {
		k.end()
	}
}

// end ends the goroutine that waits. The caller holds k.mu.
func (k *crier) end() {
	if k.stop != nil {
		k.stop()
		k.stop = nil
	}
	if k.later != nil {
		k.later.Stop()
		k.later = nil
	}
}

// cry runs until ctx ends.
func (c *Coordinator) cry(ctx context.Context) {
	var have uint64
	for {
		gen, err := c.st.Watch(ctx, have)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			c.crier.fail(ctx, fmt.Errorf("wait for a new generation: %w", err), true)
			return
		}
		x, err := c.indexAt(ctx, gen)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			// Who comes back tries again.
			c.crier.fail(ctx, err, false)
			have = gen
		default:
			c.crier.tell(ctx, x)
			if len(x.late) > 0 {
				c.settleLater()
			}
			have = x.Generation()
		}
	}
}

// lateWithin is how long what is late in a picture may wait for somebody who needs it. Until then each further picture looks again at what is
// not proven for the want of it.
const lateWithin = 5 * time.Second

// settleLater takes the second step even if the boxes that it is for are away.
func (c *Coordinator) settleLater() {
	k := &c.crier
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.later == nil {
		k.later = time.AfterFunc(lateWithin, func() {
			k.mu.Lock()
			k.later = nil
			k.mu.Unlock()
			c.settle(c.shown.Load())
		})
	}
}

// tell wakes those whom the steps since the last call may concern.
func (k *crier) tell(ctx context.Context, x *picture) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if ctx.Err() != nil {
		return // another one has begun
	}
	nodes, all := x.touched(k.cried)
	k.cried = x.Generation()
	if all {
		nodes = maps.Keys(k.of)
	}
	for id := range nodes {
		for _, w := range k.of[id] {
			// Who waits for the second step is not one of those that it waits for.
			k.call(w, !x.late[id])
		}
	}
}

// fail ends all streams, and for good also the goroutine that waits: the next to join has another one begun.
func (k *crier) fail(ctx context.Context, err error, good bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	for _, list := range k.of {
		for _, w := range list {
			w.err = err
			k.call(w, false)
		}
	}
	if good {
		k.end()
	}
}

// call wakes a watcher. The caller holds k.mu.
func (k *crier) call(w *watcher, counts bool) {
	if counts && !w.called {
		if w.called = true; k.calls == 0 {
			k.idle = make(chan struct{})
		}
		k.calls++
	}
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// mailFor wakes whoever watches as a Node, because a message was left for it.
func (k *crier) mailFor(id provisioning.NodeID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, w := range k.of[id] {
		w.mail = true
		k.call(w, false)
	}
}

// hasMail reports whether there are messages that the stream has not told of.
func (k *crier) hasMail(w *watcher) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return w.mail
}

// takeMail is hasMail for a frame that tells of them.
func (k *crier) takeMail(w *watcher) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	mail := w.mail
	w.mail = false
	return mail
}

// done notes that a watcher has nothing to do. The caller holds k.mu.
func (k *crier) done(w *watcher) {
	if !w.called {
		return
	}
	w.called = false
	if k.calls--; k.calls == 0 {
		close(k.idle)
	}
}

// rest is called before a watcher waits, and returns what ends its stream.
func (k *crier) rest(w *watcher) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.done(w)
	return w.err
}

// patience bounds how long the second step to a picture waits for what the first one has ready. A box that is slow to take its map must not
// hold up its center.
const patience = 50 * time.Millisecond

// calm returns when those who were woken have sent what they were woken for, or patience ends.
func (k *crier) calm() {
	k.mu.Lock()
	calls, idle := k.calls, k.idle
	k.mu.Unlock()
	if calls == 0 {
		return
	}
	select {
	case <-idle:
	case <-time.After(patience):
	}
}
