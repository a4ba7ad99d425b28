package gateway

import (
	"context"
	"fmt"
	"time"

	"github.com/towpath/towpath/gateway/control"
	"github.com/towpath/towpath/gateway/health"
	"github.com/towpath/towpath/gateway/rotation"
	"github.com/towpath/towpath/gateway/state"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// tellEvery is how often the coordinator is told the next key until the plan names it.
const tellEvery = 10 * time.Second

// keys are the public halves of the identity's, and what this process has lived through with them.
type keys struct {
	own, next, former wgkey.PublicKey
	// device says that the device has own; turned is since when, if there is a former one.
	device bool
	turned time.Time
	// handshake is the last one with the hub before own was turned to, reached that there was one after.
	handshake time.Time
	reached   bool
	back      time.Time
}

// configured notes that the device has the key. One that could not be configured counts too: with a key that does not work, it is time to
// go back.
func (k *keys) configured(now time.Time) {
	if !k.device && !k.former.IsZero() {
		k.turned = now
	}
	k.device = true
}

// heard takes the time of the last handshake with the hub.
func (k *keys) heard(last time.Time) {
	if !k.turned.IsZero() && !last.IsZero() && !last.Equal(k.handshake) {
		k.reached = true
	}
}

// useIdentity makes id the one that the box works with from the next apply on.
func (g *Gateway) useIdentity(id state.Identity) error {
	var public [3]wgkey.PublicKey
	for i, k := range []wgkey.PrivateKey{id.PrivateKey, id.Next, id.Former} {
		if i > 0 && k.IsZero() {
			continue
		}
		var err error
		if public[i], err = k.Public(); err != nil {
			return fmt.Errorf("derive the public key: %w", err)
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	before := g.keys
	g.id = id
	g.keys.own, g.keys.next, g.keys.former = public[0], public[1], public[2]
	if before.own != public[0] {
		g.keys.device, g.keys.turned, g.keys.reached = false, time.Time{}, false
	}
	return nil
}

// mine reports whether a map for that key is for this box.
func (g *Gateway) mine(key wgkey.PublicKey) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !key.IsZero() && (key == g.keys.own || key == g.keys.next || key == g.keys.former)
}

// nextStep is what the rotation of the key wants now.
func (g *Gateway) nextStep(now time.Time) rotation.Step {
	g.mu.Lock()
	defer g.mu.Unlock()
	since := g.link.Since
	if since.IsZero() {
		since = g.started
	}
	return rotation.Decide(rotation.Box{
		Own: g.keys.own, Next: g.keys.next, Former: g.keys.former, Self: g.plan.Self, Connected: g.link.Connected, Since: since,
		Turned: g.keys.turned, Reached: g.keys.reached, Back: g.keys.back,
	}, now)
}

// applyAndTurn applies the newest map, and takes the steps of rotation that it asks for.
func (g *Gateway) applyAndTurn(ctx context.Context) bool {
	ok := g.apply(ctx)
	if g.turnKeys(ctx) {
		ok = g.apply(ctx)
	}
	return ok
}

// turnKeys takes the steps that are due, and reports whether the box has another key now, which is to be applied.
func (g *Gateway) turnKeys(ctx context.Context) (changed bool) {
	for {
		now := time.Now()
		step := g.nextStep(now)
		if err := g.take(ctx, step); err != nil {
			g.health.Raise(codeRotation, health.Error, "the key of this box cannot be changed: "+err.Error(), now)
			return false
		}
		switch step {
		case rotation.Turn, rotation.Back:
			return true
		case rotation.Lost:
			g.health.Raise(codeRotation, health.Error, "the plan waits for a key that this box does not have, as after a return to an older copy of its "+
				"files: the operator must begin the change of its key again", now)
			return false
		case rotation.Nothing, rotation.Tell:
			g.clearRotation()
			return false
		case rotation.Make, rotation.Settle: // may follow each other, and are done then
		}
	}
}

// take does one step to the files, and reads them again.
func (g *Gateway) take(ctx context.Context, step rotation.Step) (err error) {
	dir := g.opt.Dir
	switch step {
	case rotation.Nothing, rotation.Tell, rotation.Lost:
		return nil
	case rotation.Make:
		_, err = dir.NextKey()
	case rotation.Turn:
		g.noteHandshake(ctx)
		err = dir.TurnKey()
	case rotation.Back:
		err = dir.TurnBackKey()
	case rotation.Settle:
		err = dir.SettleKey()
	}
	if err != nil {
		return err
	}
	id, err := dir.Identity()
	if err != nil {
		return err
	}
	if err := g.useIdentity(id); err != nil {
		return err
	}
	g.opt.Log.Info("changing the key of this box", "step", string(step))
	if step == rotation.Back {
		g.wentBack(time.Now())
	}
	return nil
}

func (g *Gateway) wentBack(now time.Time) {
	g.mu.Lock()
	g.keys.back = now
	g.mu.Unlock()
	g.health.Raise(codeRotation, health.Warning, fmt.Sprintf("the coordinator did not answer to the new key of this box, so the box went back to the old one: "+
		"it tries again in %d minutes", int(rotation.AgainAfter.Minutes())), now)
}

// clearRotation ends the Condition, unless it is about having gone back and the box still is.
func (g *Gateway) clearRotation() {
	g.mu.Lock()
	waits := !g.keys.next.IsZero() && g.plan.Self.Rotate == wire.RotateTurn
	g.mu.Unlock()
	if !waits {
		g.health.Clear(codeRotation)
	}
}

// noteHandshake remembers the last handshake with the hub under the old key.
func (g *Gateway) noteHandshake(ctx context.Context) {
	st, err := g.opt.Device.Status(ctx)
	if err != nil {
		return // then any handshake counts, which ends the waiting early at worst
	}
	last := lastHandshake(st, g.currentMap().Hub.PublicKey, wgkey.PublicKey{})
	g.mu.Lock()
	g.keys.handshake = last
	g.mu.Unlock()
}

// lastHandshake is the last one with a peer under either of its keys.
func lastHandshake(st tunnel.Status, key, next wgkey.PublicKey) (last time.Time) {
	for _, p := range st.Peers {
		if (p.PublicKey == key || !next.IsZero() && p.PublicKey == next) && p.LastHandshake.After(last) {
			last = p.LastHandshake
		}
	}
	return last
}

// tellKey tells the coordinator the next key if it wants to know it, and reports whether it does.
func (g *Gateway) tellKey(ctx context.Context, c control.Coordinator) bool {
	if g.nextStep(time.Now()) != rotation.Tell {
		return false
	}
	g.mu.Lock()
	key := g.keys.next
	g.mu.Unlock()
	if err := c.NextKey(ctx, wire.NextKey{Format: wire.Format, PublicKey: key}); err != nil {
		g.opt.Log.Warn("the coordinator does not take the next key of this box", "error", err)
	}
	return true
}
