package coordinator

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

const (
	// maxLate is how long a request of a process may be under way after its end: it has to be complete 10 s after its connection was made
	// (nodeapi.NewServer), and then it is served.
	maxLate = 30 * time.Second
	// maxInstances is how many starts of one box are remembered.
	maxInstances = 16
	// reasonCloned is how the reason of a Node begins that was quarantined because of it.
	reasonCloned = "its key was seen in two places"
)

// errNewerStream ends a stream because its Node has opened another.
var errNewerStream = errors.New("the node has opened another stream")

// arrivals knows which processes have watched as which Node. A box has one at a time, which has an instance of its own (wire.Have): once a
// newer one is known for maxLate, whatever comes of an older one comes from another box with the same key.
//
//	first B   after A: a restart
//	A again   up to maxLate after the first B: was under way when A ended
//	A again   later: A and B live at the same time
//
// Who tells no instance is one of its own, so that a thief does not hide by telling none. It remembers nothing across a restart of the coordinator, and learns within a few minutes again.
type arrivals struct {
	mu sync.Mutex
	of map[provisioning.NodeID]*arrival
	// endpoint says where the holder of a key is now, as the hub's device sees it; nil before there is a hub.
	endpoint func(context.Context, wgkey.PublicKey) netip.AddrPort
}

// arrival is what is known of one Node.
type arrival struct {
	// seen are its instances in the order in which they first came.
	seen []instance
	// streams counts what was opened; end ends the last.
	streams uint64
	last    string
	end     context.CancelCauseFunc
}

type instance struct {
	name     string
	first    time.Time
	endpoint netip.AddrPort
}

// open notes a stream of an instance of a Node, and ends the one before. It reports whether the Node's key is in two places, and whether
// another process was there in between, so that it is worth to know where this one is.
func (a *arrivals) open(id provisioning.NodeID, name string, now time.Time, end context.CancelCauseFunc) (stream uint64, cloned, back bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.of == nil {
		a.of = map[provisioning.NodeID]*arrival{}
	}
	v := a.of[id]
	if v == nil {
		v = &arrival{}
		a.of[id] = v
	}
	if v.end != nil {
		v.end(errNewerStream)
	}
	v.end = end
	v.streams++
	back = v.last != name
	v.last = name
	i := slices.IndexFunc(v.seen, func(s instance) bool { return s.name == name })
	if i < 0 {
		if len(v.seen) >= maxInstances {
			v.seen = slices.Delete(v.seen, 0, 1)
		}
		v.seen = append(v.seen, instance{name: name, first: now})
		return v.streams, false, len(v.seen) > 1
	}
	cloned = i+1 < len(v.seen) && now.Sub(v.seen[i+1].first) > maxLate
	return v.streams, cloned, back
}

// close forgets the end of a stream, if no other has taken its place.
func (a *arrivals) close(id provisioning.NodeID, stream uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if v := a.of[id]; v != nil && v.streams == stream && v.end != nil {
		v.end(nil)
		v.end = nil
	}
}

// at notes where an instance is.
func (a *arrivals) at(id provisioning.NodeID, name string, e netip.AddrPort) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if v := a.of[id]; v != nil && e.IsValid() {
		for i := range v.seen {
			if v.seen[i].name == name {
				v.seen[i].endpoint = e
			}
		}
	}
}

// places are the endpoints of a Node's instances, without repetition.
func (a *arrivals) places(id provisioning.NodeID) []netip.AddrPort {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []netip.AddrPort
	if v := a.of[id]; v != nil {
		for _, s := range v.seen {
			if s.endpoint.IsValid() && !slices.Contains(out, s.endpoint) {
				out = append(out, s.endpoint)
			}
		}
	}
	return out
}

// drop ends the stream of a Node and forgets its instances.
func (a *arrivals) drop(id provisioning.NodeID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if v := a.of[id]; v != nil && v.end != nil {
		v.end(errNewerStream)
	}
	delete(a.of, id)
}

// SetEndpoints tells how to find out where the holder of a key is, as the hub's device sees it: the zero AddrPort if it is not known.
func (c *Coordinator) SetEndpoints(of func(context.Context, wgkey.PublicKey) netip.AddrPort) {
	c.arrivals.mu.Lock()
	defer c.arrivals.mu.Unlock()
	c.arrivals.endpoint = of
}

// arrive begins a stream: the one before of the same Node ends. The caller calls leave with what it returns. An error means that the Node
// may not watch.
func (c *Coordinator) arrive(ctx context.Context, id provisioning.NodeID, have wire.Have) (context.Context, uint64, error) {
	ctx, end := context.WithCancelCause(ctx)
	stream, cloned, back := c.arrivals.open(id, have.Instance, time.Now(), end)
	c.mu.Lock()
	c.watching[id]++
	c.mu.Unlock()
	if back {
		c.whereIs(ctx, id, have.Instance)
	}
	if !cloned {
		return ctx, stream, nil
	}
	if err := c.quarantineClone(ctx, id); err != nil {
		c.log.Error("a key is in two places and the node cannot be quarantined", "node", id, "error", err)
		return ctx, stream, nil // the next arrival says it again
	}
	return ctx, stream, errQuarantined
}

func (c *Coordinator) leave(id provisioning.NodeID, stream uint64) {
	c.arrivals.close(id, stream)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.watching[id]--; c.watching[id] <= 0 {
		delete(c.watching, id)
	}
}

// whereIs notes where the device sees a Node now.
func (c *Coordinator) whereIs(ctx context.Context, id provisioning.NodeID, name string) {
	c.arrivals.mu.Lock()
	endpoint := c.arrivals.endpoint
	c.arrivals.mu.Unlock()
	if endpoint == nil {
		return
	}
	var n provisioning.Node
	if c.st.View(ctx, func(tx store.Tx) error {
		var err error
		n, err = tx.Nodes().ByID(id)
		return err
	}) != nil {
		return
	}
	e := endpoint(ctx, n.PublicKey)
	if !e.IsValid() {
		e = endpoint(ctx, n.NextKey)
	}
	c.arrivals.at(id, name, e)
}

// alarmTimeout bounds the transaction of an alarm, which must not end with the stream that gave it.
const alarmTimeout = 10 * time.Second

func (c *Coordinator) quarantineClone(ctx context.Context, id provisioning.NodeID) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), alarmTimeout)
	defer cancel()
	reason := reasonCloned
	if p := c.arrivals.places(id); len(p) > 1 {
		reason += fmt.Sprintf(": %v and %v", p[len(p)-2], p[len(p)-1])
	}
	c.log.Error("two boxes have the same key: the node is quarantined", "node", id, "reason", reason)
	return c.quarantine(ctx, timeActor, id, reason)
}

// QuarantineNode shuts a Node out until it is readmitted or replaced: with the next generation the hub and all peers drop its key. Its
// row, addresses and what it is granted stay.
func (c *Coordinator) QuarantineNode(ctx context.Context, actor string, id provisioning.NodeID, reason string) error {
	reason = clean(reason, maxLong/2)
	if reason == "" {
		return provisioning.Errorf(provisioning.Invalid, "a quarantine needs a reason").WithHint("say for your colleagues why the node is shut out: --reason TEXT")
	}
	return c.quarantine(ctx, actor, id, reason)
}

func (c *Coordinator) quarantine(ctx context.Context, actor string, id provisioning.NodeID, reason string) error {
	err := c.change(ctx, actor, "node.quarantine", func(tx store.Tx) (string, string, error) {
		n, err := nodeByID(tx, id)
		if err != nil {
			return "", "", err
		}
		switch n.State {
		case provisioning.NodeQuarantined:
			return "", "", provisioning.Errorf(provisioning.Conflict, "node %s is quarantined already: %s", id, n.Reason).
				WithHint("\"towpath node readmit %s\" takes it back, \"towpath node replace %s\" gives its place to another box", id, id)
		case provisioning.NodeWaiting:
			return "", "", provisioning.Errorf(provisioning.Conflict, "node %s does not take part yet, it is %s", id, n.Reason).
				WithHint("\"towpath node reject %s\" removes it", id)
		case provisioning.NodeActive:
		}
		if err := tx.Nodes().SetState(id, provisioning.NodeQuarantined, reason, c.stamp()); err != nil {
			return "", "", fmt.Errorf("quarantine the node: %w", err)
		}
		return string(id), fmt.Sprintf("%s %s at site %s: %s", n.Kind, n.Address, ownerName(tx, string(n.Site)), reason), nil
	})
	if err == nil {
		c.arrivals.drop(id)
	}
	return err
}

// ReadmitNode ends a quarantine. Who was cloned should be replaced instead, since the other box has the key still.
func (c *Coordinator) ReadmitNode(ctx context.Context, actor string, id provisioning.NodeID) error {
	c.arrivals.drop(id)
	return c.change(ctx, actor, "node.readmit", func(tx store.Tx) (string, string, error) {
		n, err := nodeByID(tx, id)
		if err != nil {
			return "", "", err
		}
		if n.State != provisioning.NodeQuarantined {
			return "", "", provisioning.Errorf(provisioning.Conflict, "node %s is not quarantined, it is %s", id, n.State).WithHint("nothing is to be done")
		}
		state, reason := c.keys.stateOf(n.Member)
		if err := tx.Nodes().SetState(id, state, reason, c.stamp()); err != nil {
			return "", "", fmt.Errorf("readmit the node: %w", err)
		}
		return string(id), fmt.Sprintf("was shut out since %s: %s", n.Since.Format(time.DateTime), n.Reason), nil
	})
}

var errQuarantined = provisioning.Errorf(provisioning.Denied, "this node is quarantined").WithHint("ask the center, which knows why")
