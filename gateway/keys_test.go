package gateway

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/towpath/towpath/gateway/health"
	"github.com/towpath/towpath/gateway/rotation"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// center plays coordinator and hub for one box whose key is changed.
type center struct {
	*box
	t *testing.T
	// away means that the hub is silent, and deaf that the coordinator does not see handshakes yet.
	away, deaf bool
	refuse     error
	handshake  time.Time
}

func newCenter(t *testing.T) *center {
	c := &center{box: newBox(t), t: t}
	c.dev.status = func() tunnel.Status {
		return tunnel.Status{Peers: []tunnel.PeerStatus{{PublicKey: c.m.Hub.PublicKey, LastHandshake: c.handshake}}}
	}
	return c
}

// key is the one that the box's device has; zero before it is configured.
func (c *center) key() wgkey.PublicKey {
	c.dev.mu.Lock()
	defer c.dev.mu.Unlock()
	if c.dev.config.PrivateKey.IsZero() {
		return wgkey.PublicKey{}
	}
	pub, err := c.dev.config.PrivateKey.Public()
	if err != nil {
		c.t.Fatal(err)
	}
	return pub
}

// hears reports whether the hub takes a handshake under the box's key.
func (c *center) hears() bool {
	key, self := c.key(), c.m.Self
	return !c.away && !key.IsZero() && (key == self.PublicKey || key == self.NextKey)
}

// NextKey implements control.Coordinator as far as these tests need it.
func (c *center) NextKey(_ context.Context, k wire.NextKey) error {
	self := &c.m.Self
	switch {
	case c.refuse != nil || !c.hears():
		return errors.Join(c.refuse, errNoRoute)
	case self.Rotate == wire.RotateMake:
		self.Rotate, self.NextKey = wire.RotateWait, k.PublicKey
		c.m.Generation++
	case self.Rotate != wire.RotateWait || self.NextKey != k.PublicKey:
		return errors.New("409 Conflict")
	}
	return nil
}

func (*center) Report(context.Context, wire.Report) error { return nil }

func (*center) Watch(context.Context, wire.Have, func() wire.Beat, func(wire.Frame) error) error {
	return errNoRoute
}

// exchange is what passes between box and hub in a moment: handshake, connection, map.
func (c *center) exchange() {
	if !c.hears() {
		c.connection(errNoRoute)
		return
	}
	if c.handshake.IsZero() || time.Since(c.handshake) > time.Minute || c.key() != c.m.Self.PublicKey {
		c.handshake = time.Now()
	}
	if !c.deaf {
		c.seen()
	}
	c.connection(nil)
	if c.have().Generation != c.m.Generation {
		s := c.signed(c.t, c.m, c.box.key)
		if err := c.frame(wire.Frame{NetMap: &s, Generation: c.m.Generation, Now: time.Now()}); err != nil {
			c.t.Fatalf("the box refuses its map: %v", err)
		}
	}
}

// seen is what the coordinator does when the hub has had a handshake with the next key. The box hears nothing of it yet.
func (c *center) seen() {
	if self := &c.m.Self; c.hears() && c.key() == self.NextKey && self.Rotate == wire.RotateTurn {
		self.PublicKey, self.NextKey, self.Rotate = self.NextKey, wgkey.PublicKey{}, ""
		c.m.Generation++
	}
}

// agree is what the coordinator does when all peers know the next key.
func (c *center) agree() {
	if c.m.Self.Rotate == wire.RotateWait {
		c.m.Self.Rotate = wire.RotateTurn
		c.m.Generation++
	}
}

// begin is what an operator does.
func (c *center) begin() {
	if c.m.Self.Rotate == "" {
		c.m.Self.Rotate = wire.RotateMake
		c.m.Generation++
	}
}

// cut ends the box's process and starts another, with what is on the disk and a device that knows nothing.
func (c *center) cut() {
	c.runner.Stop()
	id, err := c.opt.Dir.Identity()
	if err != nil {
		c.t.Fatal(err)
	}
	opt := c.opt
	opt.Identity = id
	c.dev.mu.Lock()
	c.dev.config = tunnel.Config{}
	c.dev.mu.Unlock()
	c.handshake = time.Time{}
	if c.Gateway, err = New(opt); err != nil {
		c.t.Fatal(err)
	}
}

func (c *center) round(ctx context.Context) {
	c.applyAndTurn(ctx)
	c.exchange()
	c.tellKey(ctx, c)
	c.agree()
	c.exchange()
	c.observe(ctx)
}

func (c *center) settled() bool {
	return c.m.Self.Rotate == "" && c.keys.own == c.m.Self.PublicKey && c.keys.former.IsZero() && c.key() == c.keys.own
}

// converge is good weather until the box and the plan agree.
func (c *center) converge(ctx context.Context) {
	c.t.Helper()
	c.away, c.deaf, c.refuse = false, false, nil
	for began := time.Now(); !c.settled(); time.Sleep(observeEvery) {
		if time.Since(began) > time.Hour {
			c.t.Fatalf("after an hour of good weather the plan has %+v and the box %+v", c.m.Self, c.keys)
		}
		c.round(ctx)
	}
}

func TestKeyIsChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, ctx := newCenter(t), t.Context()
		old := c.keys.own
		for range 2 {
			c.round(ctx)
			c.begin()
			began := time.Now()
			c.converge(ctx)
			if took := time.Since(began); took > time.Minute {
				t.Errorf("it took %s", took)
			}
			if c.keys.own == old {
				t.Fatal("the key is the old one")
			}
			old = c.keys.own
		}
		id, err := c.opt.Dir.Identity()
		if err != nil || !id.Next.IsZero() || !id.Former.IsZero() {
			t.Errorf("the disk keeps other keys (%v)", err)
		}
		if list := c.health.List(); len(list) > 0 {
			t.Errorf("conditions: %v", list)
		}
	})
}

// A box may be cut off before and after everything that it does to its files or says.
func TestKeyIsChangedWhereverTheBoxIsCutOff(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		ops := rapid.SliceOfN(rapid.SampledFrom([]string{
			"apply", "turn", "tell", "exchange", "agree", "cut", "round", "round", "away", "back", "deaf", "seconds", "minutes", "look", "begin", "heard",
		}), 1, 60).Draw(rt, "ops")
		synctest.Test(t, func(t *testing.T) {
			c, ctx := newCenter(t), t.Context()
			c.begin()
			for _, op := range ops {
				switch op {
				case "apply":
					c.apply(ctx)
				case "turn":
					c.turnKeys(ctx)
				case "tell":
					c.tellKey(ctx, c)
				case "exchange":
					c.exchange()
				case "agree":
					c.agree()
				case "cut":
					c.cut()
				case "round":
					c.round(ctx)
				case "away", "back":
					c.away = op == "away"
				case "heard":
					c.seen()
				case "deaf":
					c.deaf = !c.deaf
				case "seconds":
					time.Sleep(7 * time.Second)
				case "minutes":
					time.Sleep(150 * time.Second)
				case "look":
					c.observe(ctx)
				case "begin":
					c.begin()
				}
				if !c.mine(c.m.Self.PublicKey) {
					rt.Fatalf("after %s the box has lost the key that the plan has for it", op)
				}
			}
			c.converge(ctx)
		})
	})
}

// The hub has heard the new key, and the line is cut before the box knows: it goes back, finds the hub silent, and turns again by itself.
func TestKeyThatWasHeardUnknownToTheBox(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, ctx := newCenter(t), t.Context()
		c.begin()
		for c.m.Self.Rotate != wire.RotateTurn {
			c.round(ctx)
		}
		old, next := c.m.Self.PublicKey, c.m.Self.NextKey
		c.exchange()
		c.applyAndTurn(ctx)
		c.seen()
		c.away = true
		for c.key() != old {
			c.exchange()
			c.turnKeys(ctx)
			c.apply(ctx)
			if time.Sleep(observeEvery); time.Since(c.started) > time.Hour {
				t.Fatal("the box did not go back")
			}
		}
		if c.m.Self.PublicKey != next || c.hears() {
			t.Fatalf("the plan has %+v", c.m.Self)
		}
		back := time.Now()
		c.converge(ctx)
		if took := time.Since(back); took > rotation.AgainAfter+time.Minute {
			t.Errorf("it took %s", took)
		}
	})
}

// The new key does not work: the box goes back, says so, and tries again.
func TestKeyThatDoesNotWorkIsTurnedBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, ctx := newCenter(t), t.Context()
		c.begin()
		for c.m.Self.Rotate != wire.RotateTurn {
			c.round(ctx)
		}
		old, next := c.m.Self.PublicKey, c.m.Self.NextKey
		c.exchange()
		c.m.Self.NextKey = wgkey.PublicKey{} // the hub has forgotten it, and nobody says so
		c.applyAndTurn(ctx)
		if c.key() != next {
			t.Fatal("the box did not turn")
		}
		turned := time.Now()
		for c.key() != old {
			c.exchange()
			c.observe(ctx)
			c.turnKeys(ctx)
			c.apply(ctx) // as for anything else that is to be tried again
			if time.Sleep(observeEvery); time.Since(turned) > time.Hour {
				t.Fatal("the box did not go back")
			}
		}
		if took := time.Since(turned); took < rotation.ReachWithin || took > rotation.ReachWithin+time.Minute {
			t.Errorf("it went back after %s, want two minutes", took)
		}
		if c.condition(codeRotation, health.Warning) == "" {
			t.Errorf("nobody is told: %v", c.health.List())
		}
		back := time.Now()
		c.m.Self.NextKey = next
		c.converge(ctx)
		if took := time.Since(back); took < 9*time.Minute || c.keys.own != next {
			t.Errorf("it turned again after %s, want ten minutes", took)
		}
		if list := c.health.List(); len(list) > 0 {
			t.Errorf("conditions: %v", list)
		}
	})
}

func TestKeyThatIsLostIsACondition(t *testing.T) {
	c := newCenter(t)
	c.plan.Self.Rotate, c.plan.Self.NextKey = wire.RotateWait, wgkey.PublicKey{8}
	c.applyAndTurn(t.Context())
	if c.condition(codeRotation, health.Error) == "" {
		t.Errorf("conditions: %v", c.health.List())
	}
}

// The files cannot be written: the box keeps its key and says why.
func TestKeyOnADiskThatFails(t *testing.T) {
	c := newCenter(t)
	c.opt.Log = slog.New(slog.DiscardHandler)
	c.plan.Self.PublicKey = c.keys.own
	c.keys.next, c.plan.Self.NextKey, c.plan.Self.Rotate = wgkey.PublicKey{8}, wgkey.PublicKey{8}, wire.RotateTurn
	c.connection(nil)
	before := c.keys.own
	c.applyAndTurn(t.Context()) // the directory has no next key
	if c.condition(codeRotation, health.Error) == "" || c.key() != before {
		t.Errorf("conditions: %v", c.health.List())
	}
}
