package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/towpath/towpath/gateway/health"
	"github.com/towpath/towpath/gateway/state"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/proxy/spool"
	"github.com/towpath/towpath/proxy/spool/seal"
)

// Condition codes of the keys of the queue.
const (
	codeSpoolKey    = "spool-key"
	codeSpoolLocked = "spool-locked"
)

const (
	spoolKeyEvery = 10 * time.Second
	// askAgain is the pause after the coordinator has answered and did not have what is needed: each answer is in its audit trail.
	askAgain = 10 * time.Minute
)

// keyKeeper is the coordinator as far as it keeps keys.
type keyKeeper interface {
	DepositSpoolKey(ctx context.Context, d wire.SpoolKeyDeposit) error
	SpoolKeys(ctx context.Context) (wire.SpoolKeys, error)
}

// spoolKeys see to it that the queue is encrypted with a key that is kept where the plan says. After openSpoolKeys it is used by one
// goroutine.
type spoolKeys struct {
	dir    *state.Dir
	spool  *spool.Spool
	keeper keyKeeper
	health *health.Set
	log    *slog.Logger
	// unlocked hears that items became readable.
	unlocked func()
	// answered is when the coordinator was asked in vain.
	answered time.Time
}

// UnlockQueue gives the queue all keys that are on this box, and returns how many items these made readable.
func UnlockQueue(dir *state.Dir, s *spool.Spool) (int, error) {
	keys, err := dir.SpoolKeys()
	if err != nil {
		return 0, fmt.Errorf("read the queue's keys: %w", err)
	}
	n := 0
	for _, k := range keys {
		if !k.Private.IsZero() {
			n += s.Unlock(k.Private)
		}
	}
	return n, nil
}

// openSpoolKeys has everything encrypted from now on, with a key of this box if there was none.
func openSpoolKeys(opt Options, keeper keyKeeper) (*spoolKeys, error) {
	k := &spoolKeys{dir: opt.Dir, spool: opt.Spool, keeper: keeper, log: opt.Log}
	if _, err := UnlockQueue(opt.Dir, opt.Spool); err != nil {
		return nil, err
	}
	keys, err := opt.Dir.SpoolKeys()
	if err != nil {
		return nil, fmt.Errorf("read the queue's keys: %w", err)
	}
	if len(keys) == 0 {
		return k, k.makeOwn()
	}
	opt.Spool.SealTo(keys[0].Public)
	return k, nil
}

// makeOwn makes a key that stays on this box.
func (k *spoolKeys) makeOwn() error {
	key, err := seal.NewPrivateKey()
	if err != nil {
		return fmt.Errorf("make the queue's key: %w", err)
	}
	if err := k.dir.AddSpoolKey(key); err != nil {
		return fmt.Errorf("keep the queue's key: %w", err)
	}
	k.spool.SealTo(key.Public())
	return nil
}

// makeHeld makes a key that the coordinator keeps. Its private half is never on this box's disk.
func (k *spoolKeys) makeHeld(ctx context.Context) error {
	key, err := seal.NewPrivateKey()
	if err != nil {
		return fmt.Errorf("make the queue's key: %w", err)
	}
	secret, err := key.RevealBytes()
	if err != nil {
		return fmt.Errorf("make the queue's key: %w", err)
	}
	defer clear(secret)
	d := wire.SpoolKeyDeposit{Format: wire.Format, Key: wire.HeldSpoolKey{ID: string(key.Public().ID()), Private: secret}}
	for _, id := range k.spool.Keys() {
		d.Needed = append(d.Needed, string(id))
	}
	if err := k.keeper.DepositSpoolKey(ctx, d); err != nil {
		return err //nolint:wrapcheck // it says what was to be done
	}
	if err := k.dir.AddHeldSpoolKey(key.Public()); err != nil {
		return fmt.Errorf("keep the queue's key: %w", err)
	}
	k.spool.SealTo(key.Public())
	k.log.Info("the queue's key is kept by the coordinator from now on", "key", key.Public().ID())
	return nil
}

// follow makes true where the plan wants the key, and opens what is locked.
func (k *spoolKeys) follow(ctx context.Context, want wire.SpoolKey, connected bool, now time.Time) {
	if problem := k.place(ctx, want, connected); problem != "" {
		k.health.Raise(codeSpoolKey, health.Warning, problem, now)
	} else {
		k.health.Clear(codeSpoolKey)
	}
	if problem, severity := k.open(ctx, connected, now); problem != "" {
		k.health.Raise(codeSpoolLocked, severity, problem, now)
	} else {
		k.health.Clear(codeSpoolLocked)
	}
	if n, err := k.dir.KeepSpoolKeys(k.spool.Keys()); err != nil {
		k.log.Warn("former keys of the queue could not be forgotten", "error", err)
	} else if n > 0 {
		k.log.Info("former keys of the queue were forgotten: nothing is encrypted with them any more", "keys", n)
	}
}

// place makes a new key if the newest is not where the plan wants it. It returns what keeps it from that.
func (k *spoolKeys) place(ctx context.Context, want wire.SpoolKey, connected bool) string {
	keys, err := k.dir.SpoolKeys()
	if err != nil || len(keys) == 0 {
		return "the key of the queue cannot be read: see the log"
	}
	is, own := keys[0].Store, k.dir.StoreName()
	switch {
	case want == wire.SpoolKeyCoordinator && is == state.CoordinatorStore:
		return ""
	case want == wire.SpoolKeyCoordinator && !connected:
		return "the queue's key is to be kept by the coordinator, which is not reached; until then it is on this box"
	case want == wire.SpoolKeyCoordinator:
		err = k.makeHeld(ctx)
	case want == wire.SpoolKeyTPM && own != string(wire.SpoolKeyTPM):
		return "the queue's key is to be kept by the TPM, which this box does not use: move its keys there (towpath keystore move --key-store tpm)"
	case is == state.CoordinatorStore, is != own && own != state.FileStore:
		err = k.makeOwn()
	}
	if err != nil {
		k.log.Warn("the queue has no new key", "error", err)
		return "the queue's key could not be put where it is to be kept: " + err.Error()
	}
	return ""
}

// open fetches the keys that are missing. It returns what keeps it from that.
func (k *spoolKeys) open(ctx context.Context, connected bool, now time.Time) (string, health.Severity) {
	locked := k.spool.Locked()
	if len(locked) == 0 {
		return "", health.Info
	}
	elsewhere := slices.ContainsFunc(locked, func(l spool.LockedItems) bool { return l.Key != "" })
	if connected && elsewhere && now.Sub(k.answered) >= askAgain {
		if n, err := k.fetch(ctx); err != nil {
			k.log.Warn("the coordinator did not give the queue's key", "error", err)
			connected = false
		} else {
			k.answered = now
			k.log.Info("the queue's key came from the coordinator", "items", n)
			if n > 0 {
				k.unlocked()
			}
		}
		locked = k.spool.Locked()
	}
	var missing []string
	for _, l := range locked {
		switch {
		case l.Key == "":
			missing = append(missing, fmt.Sprintf(
				"%d items of the queue cannot be read, since their data key is missing or damaged: restore the folder spool/epochs from the backup", l.Items))
		case !connected:
			return fmt.Sprintf("%d items of the queue are encrypted with a key that the coordinator keeps, and wait until it is reached; "+
				"new ones are taken meanwhile", l.Items), health.Warning
		default:
			missing = append(missing, fmt.Sprintf(
				"%d items of the queue are encrypted with the key %s, which neither this box nor the coordinator has: restore spool-key.json from the backup",
				l.Items, l.Key))
		}
	}
	slices.Sort(missing)
	return strings.Join(missing, "; "), health.Error
}

// fetch unlocks the queue with what the coordinator keeps, and forgets that again.
func (k *spoolKeys) fetch(ctx context.Context) (int, error) {
	held, err := k.keeper.SpoolKeys(ctx)
	if err != nil {
		return 0, err //nolint:wrapcheck // it says what was to be done
	}
	n := 0
	for _, h := range held.Keys {
		key, err := seal.ParsePrivateKey(h.Private)
		clear(h.Private)
		if err != nil {
			return n, fmt.Errorf("the key %s: %w", h.ID, err)
		}
		n += k.spool.Unlock(key)
	}
	return n, nil
}

// spoolKeyLoop looks after the keys until ctx is done.
func (g *Gateway) spoolKeyLoop(ctx context.Context) error {
	g.spoolKeys.health = &g.health
	g.spoolKeys.unlocked = func() {
		// What was repeated before could not be known again.
		if err := g.hl7.Ledger.Adopt(g.opt.Spool); err != nil {
			g.opt.Log.Warn("messages that wait could not be entered in the ledger", "error", err)
		}
	}
	tick := time.NewTicker(spoolKeyEvery)
	defer tick.Stop()
	for {
		m, connected := g.keyPlace()
		g.spoolKeys.follow(ctx, m, connected, time.Now())
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// keyPlace is where the plan wants the key of the queue, and whether the coordinator is there.
func (g *Gateway) keyPlace() (wire.SpoolKey, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.plan.Self.SpoolKey, g.link.Connected
}

// usage is what all queues together take; the zero value while the queue closes.
func (g *Gateway) usage() spool.Usage {
	u, err := g.opt.Spool.Usage()
	if err != nil {
		return spool.Usage{}
	}
	return u
}
