package coordinator

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/towpath/towpath/ipam"
	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
)

// planIndex is the plan's prefixes as the database has them at one revision, see store.Ranges. It moves on by what this process commits and
// is built anew after somebody else did, so that an allocation costs what it changes and not what the plan holds.
type planIndex struct {
	mu sync.Mutex
	// plan is nil until somebody asks.
	plan     *ipam.Plan
	revision uint64
	// steps are the commits since then, by the revision that they began from; kept is how many changes they hold.
	steps map[uint64]step
	kept  int
}

// step is what one transaction changed.
type step struct {
	from, to uint64
	changes  []prefixChange
}

// prefixChange is a prefix that came, or is gone.
type prefixChange struct {
	prefix     netip.Prefix
	pool, gone bool
}

// maxKept is how many changes are kept for an index that nobody asks for; beyond, it is cheaper to build it anew.
const maxKept = 100_000

// track makes a Store that tells an index of what it commits. All transactions of the Coordinator go through it.
func track(st store.Store) trackedStore {
	return trackedStore{Store: st, index: &planIndex{steps: map[uint64]step{}}}
}

type trackedStore struct {
	store.Store
	index *planIndex
}

// View implements store.Store.
func (s trackedStore) View(ctx context.Context, fn func(store.Tx) error) error {
	return s.Store.View(ctx, func(tx store.Tx) error { return fn(&trackedTx{Tx: tx, index: s.index}) })
}

// Update implements store.Store. Only what was committed reaches the index, because another transaction may get the same revision after a
// rollback.
func (s trackedStore) Update(ctx context.Context, fn func(store.Tx) error) error {
	var done step
	err := s.Store.Update(ctx, func(tx store.Tx) error {
		t := &trackedTx{Tx: tx, index: s.index}
		done = step{}
		if err := fn(t); err != nil {
			return err
		}
		if len(t.step.changes) == 0 {
			return nil
		}
		var err error
		t.step.to, err = tx.Ranges().Revision()
		done = t.step
		return err
	})
	if err == nil && len(done.changes) > 0 {
		s.index.committed(done)
	}
	return err
}

// trackedTx is a transaction that knows what it has changed.
type trackedTx struct {
	store.Tx
	index *planIndex
	began bool
	step  step
}

// Ranges implements store.Tx.
func (t *trackedTx) Ranges() store.Ranges { return trackedRanges{t.Tx.Ranges(), t} }

// begin reads the revision before the first change.
func (t *trackedTx) begin() error {
	if t.began {
		return nil
	}
	var err error
	if t.step.from, err = t.Tx.Ranges().Revision(); err != nil {
		return fmt.Errorf("read the revision of the plan: %w", err)
	}
	t.began = true
	return nil
}

func (t *trackedTx) note(r provisioning.Range, gone bool) {
	t.step.changes = append(t.step.changes, prefixChange{prefix: r.Prefix, pool: r.Kind == provisioning.RangePool, gone: gone})
}

// plan runs fn with the index as this transaction sees the plan. It is for reading, and for fn only.
func (t *trackedTx) plan(fn func(*ipam.Plan) error) error {
	if err := t.begin(); err != nil {
		return err
	}
	return t.index.at(t.Tx, t.step, fn)
}

type trackedRanges struct {
	store.Ranges
	t *trackedTx
}

// Create implements store.Ranges.
func (g trackedRanges) Create(r provisioning.Range) (provisioning.Range, error) {
	if err := g.t.begin(); err != nil {
		return r, err
	}
	r, err := g.Ranges.Create(r)
	if err == nil {
		g.t.note(r, false)
	}
	return r, err
}

// Remove implements store.Ranges.
func (g trackedRanges) Remove(id int64) error {
	if err := g.t.begin(); err != nil {
		return err
	}
	r, err := g.ByID(id)
	if err != nil {
		return err
	}
	if err := g.Ranges.Remove(id); err != nil {
		return err
	}
	g.t.note(r, true)
	return nil
}

// Sweep implements store.Ranges.
func (g trackedRanges) Sweep(now time.Time) ([]provisioning.Range, error) {
	if err := g.t.begin(); err != nil {
		return nil, err
	}
	swept, err := g.Ranges.Sweep(now)
	if err == nil {
		for _, r := range swept {
			g.t.note(r, true)
		}
	}
	return swept, err
}

// at runs fn with the plan as a transaction sees it that began at own.from and has changed own.changes since.
func (x *planIndex) at(tx store.Tx, own step, fn func(*ipam.Plan) error) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	plan, err := x.reach(tx, own)
	if err != nil {
		return err
	}
	if err := replay(plan, own.changes); err != nil {
		x.plan = nil
		return err
	}
	result := fn(plan)
	if err := replay(plan, inverse(own.changes)); err != nil {
		x.plan = nil
		return err
	}
	return result
}

// reach returns the plan at own.from. Behind that of the index it is one that nobody keeps.
func (x *planIndex) reach(tx store.Tx, own step) (*ipam.Plan, error) {
	for x.plan != nil && x.revision < own.from {
		s, ok := x.steps[x.revision]
		if !ok {
			break
		}
		if err := replay(x.plan, s.changes); err != nil {
			x.plan = nil
			return nil, err
		}
		delete(x.steps, x.revision)
		x.revision, x.kept = s.to, x.kept-len(s.changes)
	}
	if x.plan != nil && x.revision == own.from {
		return x.plan, nil
	}
	plan, err := buildPlan(tx)
	if err != nil {
		return nil, err
	}
	if err := replay(plan, inverse(own.changes)); err != nil {
		return nil, err
	}
	if x.plan == nil || x.revision < own.from {
		x.plan, x.revision = plan, own.from
		x.forget(func(s step) bool { return s.from < own.from })
	}
	return plan, nil
}

func (x *planIndex) committed(s step) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.plan == nil || s.from < x.revision {
		return
	}
	x.steps[s.from] = s
	if x.kept += len(s.changes); x.kept > maxKept {
		x.plan = nil
		x.forget(func(step) bool { return true })
	}
}

// drop makes the next one who asks build the index anew.
func (x *planIndex) drop() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.plan = nil
	x.forget(func(step) bool { return true })
}

func (x *planIndex) forget(which func(step) bool) {
	for from, s := range x.steps {
		if which(s) {
			delete(x.steps, from)
			x.kept -= len(s.changes)
		}
	}
}

func buildPlan(tx store.Tx) (*ipam.Plan, error) {
	ranges, err := tx.Ranges().List()
	if err != nil {
		return nil, fmt.Errorf("read the plan: %w", err)
	}
	changes := make([]prefixChange, 0, len(ranges))
	for _, r := range ranges {
		changes = append(changes, prefixChange{prefix: r.Prefix, pool: r.Kind == provisioning.RangePool})
	}
	plan := ipam.NewPlan()
	return plan, replay(plan, changes)
}

func replay(plan *ipam.Plan, changes []prefixChange) error {
	for _, c := range changes {
		do := plan.Take
		switch {
		case c.pool && c.gone:
			do = plan.RemovePool
		case c.pool:
			do = plan.AddPool
		case c.gone:
			do = plan.Release
		}
		if err := do(c.prefix); err != nil {
			return fmt.Errorf("follow the plan: %w", err)
		}
	}
	return nil
}

func inverse(changes []prefixChange) []prefixChange {
	out := slices.Clone(changes)
	slices.Reverse(out)
	for i := range out {
		out[i].gone = !out[i].gone
	}
	return out
}
