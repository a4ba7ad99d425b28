package coordinator

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/netmap"
	"github.com/towpath/towpath/provisioning/store"
)

// feed holds what the transactions of this process have made of the network from one generation to the next, so that a picture moves on
// without reading the database. Where another process raised the generation, or somebody changed something without raising it, there is a
// gap, and the network has to be read.
type feed struct {
	mu sync.Mutex
	// moved is signaled when a transaction has ended.
	moved sync.Cond
	// open are the steps of transactions that are being committed.
	open map[*netStep]bool
	// steps are committed, by the generation that they lead from; kept is how many rows they hold.
	steps map[uint64]*netStep
	kept  int
	// torn is set when a change is in no step.
	torn bool
}

// maxFeed is how many rows are kept; beyond, it is cheaper to read the network.
const maxFeed = 4096

func newFeed() *feed {
	f := &feed{open: map[*netStep]bool{}, steps: map[uint64]*netStep{}}
	f.moved.L = &f.mu
	return f
}

// netStep is what one transaction made of the network: rows as they are after it, nil for one that is gone.
type netStep struct {
	to uint64
	// ranges of the plan lead from one revision to another, see store.Ranges: what is swept by another process raises no generation.
	revision, revised uint64
	sites             map[provisioning.SiteID]*provisioning.Site
	nodes             map[provisioning.NodeID]*provisioning.Node
	services          map[provisioning.ServiceID]*provisioning.Service
	grants            map[grantID]*provisioning.Grant
	ranges            map[int64]*provisioning.Range
}

type grantID = netmap.GrantID

func (s *netStep) size() int {
	return len(s.sites) + len(s.nodes) + len(s.services) + len(s.grants) + len(s.ranges)
}

// after returns the steps from a generation and a revision of the plan to a generation not below min, oldest first. It waits for
// transactions that may still end well.
func (f *feed) after(from, revision, min uint64) ([]*netStep, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for !f.torn {
		var steps []*netStep
		at, revised := from, revision
		for s := f.steps[at]; s != nil && s.revision == revised; s = f.steps[at] {
			steps = append(steps, s)
			at, revised = s.to, s.revised
		}
		switch {
		case at >= min:
			return steps, true
		case !f.awaits(at + 1):
			return nil, false
		}
		f.moved.Wait()
	}
	return nil, false
}

func (f *feed) awaits(gen uint64) bool {
	for s := range f.open {
		if s.to == gen {
			return true
		}
	}
	return false
}

// forget drops what leads to a generation that is known.
func (f *feed) forget(gen uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for from, s := range f.steps {
		if s.to <= gen {
			f.kept -= s.size()
			delete(f.steps, from)
		}
	}
}

// mend is called before the network is read, by which all is known that is in no step.
func (f *feed) mend() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.torn = false
}

func (f *feed) begin(s *netStep) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open[s] = true
}

// end takes what became of a transaction.
func (f *feed) end(s *netStep, committed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.open, s)
	if committed {
		if f.kept += s.size(); f.kept > maxFeed {
			clear(f.steps)
			f.kept = s.size()
		}
		f.steps[s.to-1] = s
	}
	f.moved.Broadcast()
}

func (f *feed) tear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.torn = true
}

// fed makes a Store that tells a feed of what it commits.
func fed(st store.Store, f *feed) store.Store { return fedStore{st, f} }

type fedStore struct {
	store.Store
	feed *feed
}

// Update implements store.Store.
func (s fedStore) Update(ctx context.Context, fn func(store.Tx) error) error {
	var step *netStep
	loose := false
	err := s.Store.Update(ctx, func(tx store.Tx) error {
		if step != nil {
			s.feed.end(step, false) // it is tried again
			step = nil
		}
		t := newFedTx(tx)
		if err := fn(t); err != nil {
			return err
		}
		loose = !t.bumped && (t.changed() > 0 || t.all)
		if !t.bumped {
			return nil
		}
		made, err := t.finish()
		if err != nil || made == nil {
			return err
		}
		step = made
		s.feed.begin(step)
		return nil
	})
	if loose {
		s.feed.tear()
	}
	if step != nil {
		s.feed.end(step, err == nil)
	}
	return err
}

// fedTx is a transaction that notes what it changes. What Nodes report is in no map and not noted.
type fedTx struct {
	store.Tx
	bumped bool
	// all means that what changed is not for a step.
	all      bool
	sites    map[provisioning.SiteID]bool
	nodes    map[provisioning.NodeID]bool
	services map[provisioning.ServiceID]bool
	grants   map[grantID]*provisioning.Grant
	ranges   map[int64]bool
	// revision is that of the plan before the first change of it, once began.
	revision uint64
	began    bool
}

func newFedTx(tx store.Tx) *fedTx {
	return &fedTx{
		Tx: tx, sites: map[provisioning.SiteID]bool{}, nodes: map[provisioning.NodeID]bool{}, services: map[provisioning.ServiceID]bool{},
		grants: map[grantID]*provisioning.Grant{}, ranges: map[int64]bool{},
	}
}

func (t *fedTx) changed() int {
	return len(t.sites) + len(t.nodes) + len(t.services) + len(t.grants) + len(t.ranges)
}

// Bump implements store.Meta.
func (t *fedTx) Bump() (uint64, error) {
	t.bumped = true
	return t.Tx.Bump()
}

// SetSetting implements store.Meta. Settings are in all maps, or in none.
func (t *fedTx) SetSetting(key, value string) error {
	t.all = t.all || key == settingConfig
	return t.Tx.SetSetting(key, value)
}

// begin reads the revision of the plan before it is changed.
func (t *fedTx) begin() error {
	if t.began {
		return nil
	}
	var err error
	if t.revision, err = t.Tx.Ranges().Revision(); err != nil {
		return fmt.Errorf("read the revision of the plan: %w", err)
	}
	t.began = true
	return nil
}

// finish reads what the transaction leaves behind. It returns nil if that is more than a step should hold.
func (t *fedTx) finish() (*netStep, error) {
	if t.all || t.changed() > maxFeed/2 {
		return nil, nil
	}
	s := &netStep{grants: t.grants}
	var err error
	if s.to, err = t.Generation(); err != nil {
		return nil, fmt.Errorf("read the generation: %w", err)
	}
	if s.revised, err = t.Tx.Ranges().Revision(); err != nil {
		return nil, fmt.Errorf("read the revision of the plan: %w", err)
	}
	if s.revision = s.revised; t.began {
		s.revision = t.revision
	}
	var errs [4]error
	s.sites, errs[0] = left(t.sites, t.Tx.Sites().ByID)
	s.nodes, errs[1] = left(t.nodes, t.Tx.Nodes().ByID)
	s.services, errs[2] = left(t.services, t.Tx.Services().ByID)
	s.ranges, errs[3] = left(t.ranges, t.Tx.Ranges().ByID)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, fmt.Errorf("read what was changed: %w", err)
	}
	return s, nil
}

// left reads the rows with some ids, nil for those that are not there.
func left[K comparable, V any](ids map[K]bool, read func(K) (V, error)) (map[K]*V, error) {
	out := make(map[K]*V, len(ids))
	for id := range ids {
		v, err := read(id)
		switch {
		case errors.Is(err, store.ErrNotFound):
			out[id] = nil
		case err != nil:
			return nil, err
		default:
			out[id] = &v
		}
	}
	return out, nil
}

// change is a step as the index follows it.
func (s *netStep) change() netmap.Change {
	return netmap.Change{Generation: s.to, Sites: s.sites, Nodes: s.nodes, Services: s.services, Grants: s.grants, Ranges: s.ranges}
}

// joined is several steps in one.
func joined(steps []*netStep) *netStep {
	if len(steps) == 1 {
		return steps[0]
	}
	all := &netStep{
		revision: steps[0].revision,
		sites:    map[provisioning.SiteID]*provisioning.Site{}, nodes: map[provisioning.NodeID]*provisioning.Node{},
		services: map[provisioning.ServiceID]*provisioning.Service{}, grants: map[grantID]*provisioning.Grant{}, ranges: map[int64]*provisioning.Range{},
	}
	for _, s := range steps {
		all.to, all.revised = s.to, s.revised
		maps.Copy(all.sites, s.sites)
		maps.Copy(all.nodes, s.nodes)
		maps.Copy(all.services, s.services)
		maps.Copy(all.grants, s.grants)
		maps.Copy(all.ranges, s.ranges)
	}
	return all
}
