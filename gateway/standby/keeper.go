package standby

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/towpath/towpath/proxy"
)

// KeeperConfig is what a Keeper works on. All but Options are required.
type KeeperConfig struct {
	// Network is the overlay.
	Network proxy.Network
	// Apply makes true what Active says, at once. An error means that nothing has changed.
	Apply func(context.Context) error
	// Save keeps what Active says over a restart. It is called after every move, when Status tells of it.
	Save    func(active map[string]string) error
	Options Options
	Log     *slog.Logger
}

// Keeper chooses for all centers of a map. It is safe for concurrent use.
type Keeper struct {
	cfg     KeeperConfig
	changed chan struct{} // want is another

	mu     sync.Mutex        // guards the fields below
	active map[string]string // by site, where it is not the first
	want   []Group
	sites  map[string]*State
}

// State is how one center is reached, for people.
type State struct {
	Site string `json:"site"`
	// Active is the node that all leads to, Preferred the first by rank.
	Active    string `json:"active"`
	Preferred string `json:"preferred"`
	// Why and Since are of the last move; both are zero without any since the start.
	Why      Why            `json:"why,omitempty"`
	Since    time.Time      `json:"since,omitzero"`
	Gateways []GatewayState `json:"gateways"`
}

// GatewayState is how one gateway is.
type GatewayState struct {
	Node    string     `json:"node"`
	Address netip.Addr `json:"address"`
	// Probed is when it was asked last; zero before the first answer or time-out.
	Probed  time.Time `json:"probed,omitzero"`
	Healthy bool      `json:"healthy"`
	// Problem says why it is not, and since when.
	Problem string    `json:"problem,omitempty"`
	Since   time.Time `json:"since,omitzero"`
	// Failures are the probes in a row that failed.
	Failures int `json:"failures,omitempty"`
}

// NewKeeper returns one that begins with what was active before a restart.
func NewKeeper(cfg KeeperConfig, active map[string]string) *Keeper {
	k := &Keeper{cfg: cfg, changed: make(chan struct{}, 1), active: maps.Clone(active), sites: map[string]*State{}}
	if k.active == nil {
		k.active = map[string]string{}
	}
	return k
}

// Active says which gateways of which Sites are in use that are not the first. It is what Place takes.
func (k *Keeper) Active() map[string]string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return maps.Clone(k.active)
}

// Follow tells of the Groups of the map in force.
func (k *Keeper) Follow(groups []Group) {
	k.mu.Lock()
	same := slices.EqualFunc(k.want, groups, Group.equal)
	k.want = groups
	k.mu.Unlock()
	if same {
		return
	}
	select {
	case k.changed <- struct{}{}:
	default: // one is waiting already, and will find the newest
	}
}

// watcher is one running Watch.
type watcher struct {
	group  Group
	cancel context.CancelFunc
	done   chan struct{}
}

// Run probes and moves until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	running := map[string]*watcher{}
	defer func() {
		for _, w := range running {
			w.cancel()
			<-w.done
		}
	}()
	for {
		k.turn(ctx, running)
		select {
		case <-ctx.Done():
			return
		case <-k.changed:
		}
	}
}

// turn makes what runs be what is wanted.
func (k *Keeper) turn(ctx context.Context, running map[string]*watcher) {
	k.mu.Lock()
	want := slices.Clone(k.want)
	k.mu.Unlock()
	for site, w := range running {
		if slices.ContainsFunc(want, w.group.equal) {
			continue
		}
		w.cancel()
		<-w.done
		delete(running, site)
	}
	k.forget(want)
	for _, g := range want {
		if running[g.Site] == nil && ctx.Err() == nil {
			running[g.Site] = k.start(ctx, g)
		}
	}
}

// forget drops what is known of Sites that are none of the Groups.
func (k *Keeper) forget(want []Group) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for site := range k.sites {
		if !slices.ContainsFunc(want, func(g Group) bool { return g.Site == site }) {
			delete(k.sites, site)
			delete(k.active, site)
		}
	}
}

func (k *Keeper) start(ctx context.Context, g Group) *watcher {
	ctx, cancel := context.WithCancel(ctx)
	w := &watcher{group: g, cancel: cancel, done: make(chan struct{})}
	m := New(k.cfg.Options, g.nodes(), k.enter(g))
	askers := make(map[string]*asker, len(g.Gateways))
	for _, x := range g.Gateways {
		askers[x.Node] = newAsker(k.cfg.Network, x.Address)
	}
	go func() {
		defer close(w.done)
		Watch(ctx, m, WatchConfig{
			Services: g.Services, Log: k.cfg.Log.With("site", g.Site),
			Probe:  func(ctx context.Context, node string) ([]string, error) { return askers[node].ask(ctx) },
			Switch: func(ctx context.Context, d Decision) error { return k.move(ctx, g, d) },
			Saw:    func(l Look) { k.saw(g.Site, l) },
		})
		for _, a := range askers {
			a.close()
		}
	}()
	return w
}

// enter begins the State of a Group and returns the gateway in use.
func (k *Keeper) enter(g Group) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	first := g.Gateways[0].Node
	if at := slices.Index(g.nodes(), k.active[g.Site]); at <= 0 {
		delete(k.active, g.Site)
	}
	s := &State{Site: g.Site, Active: cmp.Or(k.active[g.Site], first), Preferred: first}
	if was := k.sites[g.Site]; was != nil && was.Active == s.Active {
		s.Why, s.Since = was.Why, was.Since
	}
	for _, x := range g.Gateways {
		s.Gateways = append(s.Gateways, GatewayState{Node: x.Node, Address: x.Address})
	}
	k.sites[g.Site] = s
	return s.Active
}

// move makes a Decision true. What does not work leaves all as it was.
func (k *Keeper) move(ctx context.Context, g Group, d Decision) error {
	was := k.set(g, d.To)
	if err := k.cfg.Apply(ctx); err != nil {
		k.set(g, was)
		return err
	}
	k.mu.Lock()
	s, active := k.sites[g.Site], maps.Clone(k.active)
	s.Active, s.Why, s.Since = d.To, d.Why, time.Now()
	k.mu.Unlock()
	if err := k.cfg.Save(active); err != nil {
		k.cfg.Log.Warn("after a restart the preferred gateway is used first, because the choice could not be saved", "site", g.Site, "error", err)
	}
	return nil
}

// set makes a gateway the active one and returns the one before.
func (k *Keeper) set(g Group, to string) (was string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	first := g.Gateways[0].Node
	was = cmp.Or(k.active[g.Site], first)
	if to == first {
		delete(k.active, g.Site)
	} else {
		k.active[g.Site] = to
	}
	return was
}

func (k *Keeper) saw(site string, l Look) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.sites[site]
	i := slices.IndexFunc(s.Gateways, func(x GatewayState) bool { return x.Node == l.Gateway })
	x := &s.Gateways[i]
	healthy := l.Verdict == Healthy
	if x.Healthy != healthy || x.Since.IsZero() {
		x.Since = l.At
	}
	x.Probed, x.Healthy, x.Problem = l.At, healthy, ""
	if l.Err != nil {
		x.Problem = l.Err.Error()
	}
	if l.Verdict != Failing {
		x.Failures = 0
	} else {
		x.Failures++
	}
}

// Status is how all centers are reached that have several gateways, by Site.
func (k *Keeper) Status() []State {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []State
	for _, s := range k.sites {
		v := *s
		v.Gateways = slices.Clone(s.Gateways)
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b State) int { return cmp.Compare(a.Site, b.Site) })
	return out
}
