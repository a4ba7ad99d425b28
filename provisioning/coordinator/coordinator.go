package coordinator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// Options are what a Coordinator may be given.
type Options struct {
	// Log may be nil.
	Log *slog.Logger
	// Tool is the name and version of the program, for certificates.
	Tool string
	// Now gives the timestamps that are stored and signed; nil means time.Now. Waiting uses the system's clock.
	Now func() time.Time
	// Relay says that the hub is a relay too, see package relay.
	Relay bool
}

// Coordinator is safe for concurrent use.
type Coordinator struct {
	st       trackedStore
	keys     *Keys
	settings settings
	log      *slog.Logger
	now      func() time.Time
	hubRelay bool

	failures limiter
	bases    bases
	arrivals arrivals
	paths    paths
	restored restored
	turning  turning
	// asking counts questions about Nodes that are not there, see Standing.
	asking  limiter
	started time.Time

	mu       sync.Mutex
	maps     map[provisioning.NodeID]mapState
	watching map[provisioning.NodeID]int
	hub      hubProgress
	// carried are the keys of Nodes that reach the hub over TCP alone; it is replaced as a whole.
	carried  map[wgkey.PublicKey]bool
	progress map[provisioning.NodeID]progress
	// since is when each Finding was first seen by this process.
	since map[Finding]time.Time

	// pictureMu is held while the picture is loaded and proven, so that a change is read once however many nodes wait for it.
	pictureMu sync.Mutex
	picture   *picture
	// shown is picture, for those who need nothing newer.
	shown     atomic.Pointer[picture]
	publisher publisher
	// lateMu is held while late maps are made. Who holds it may take pictureMu, and not the other way round.
	lateMu sync.Mutex
	crier  crier
	feed   *feed
	// revision is that of the plan in the picture.
	revision uint64
}

// startTimeout bounds what New reads from the store.
const startTimeout = 30 * time.Second

// New opens an initialized network. It refuses the keys of another one.
func New(st store.Store, keys *Keys, o Options) (*Coordinator, error) {
	changes := newFeed()
	c := &Coordinator{
		st:       track(fed(st, changes)),
		keys:     keys,
		log:      o.Log,
		now:      o.Now,
		hubRelay: o.Relay,
		started:  time.Now(),
		maps:     map[provisioning.NodeID]mapState{},
		watching: map[provisioning.NodeID]int{},
		progress: map[provisioning.NodeID]progress{},

		publisher: publisher{tool: o.Tool},
		feed:      changes,
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if c.now == nil {
		c.now = time.Now
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	var err error
	if c.settings, err = bindSettings(ctx, st, keys.NetworkID()); err != nil {
		return nil, err
	}
	return c, nil
}

// Identity is what GET wire.PathIdentity answers.
func (c *Coordinator) Identity() wire.Identity { return c.keys.Identity() }

// HubKey is the WireGuard key of the hub.
func (c *Coordinator) HubKey() wgkey.PrivateKey { return c.keys.hub }

// Await returns as soon as the generation is above have, with the generation there is.
func (c *Coordinator) Await(ctx context.Context, have uint64) (uint64, error) {
	return c.st.Watch(ctx, have)
}

// stamp is the time to store: UTC and without the monotonic reading, so that what is read back is equal.
func (c *Coordinator) stamp() time.Time { return stamp(c.now) }

func stamp(now func() time.Time) time.Time { return now().UTC().Round(0) }

// change runs fn in one transaction together with the audit event it returns, and raises the generation. fn may be run again after a
// conflict.
func (c *Coordinator) change(ctx context.Context, actor, action string, fn func(store.Tx) (subject, detail string, err error)) error {
	return c.st.Update(ctx, func(tx store.Tx) error {
		subject, detail, err := fn(tx)
		if err != nil {
			return err
		}
		if _, err := tx.Bump(); err != nil {
			return fmt.Errorf("raise the generation: %w", err)
		}
		return record(tx, c.stamp(), actor, action, subject, detail)
	})
}

// record writes an audit event.
func record(tx store.Tx, at time.Time, actor, action, subject, detail string) error {
	_, err := tx.Events().Append(provisioning.Event{
		At: at, Actor: clean(actor, maxShort), Action: action, Subject: clean(subject, maxShort), Detail: clean(detail, maxLong),
	})
	if err != nil {
		return fmt.Errorf("write the audit event: %w", err)
	}
	return nil
}

// siteNamed finds a Site by name or id.
func siteNamed(tx store.Tx, name string) (provisioning.Site, error) {
	s, err := tx.Sites().ByName(name)
	if errors.Is(err, store.ErrNotFound) {
		s, err = tx.Sites().ByID(provisioning.SiteID(name))
	}
	if errors.Is(err, store.ErrNotFound) {
		return s, provisioning.Errorf(provisioning.NotFound, "there is no site named %q", clean(name, maxShort)).
			WithHint("the list of sites shows the names")
	}
	if err != nil {
		return s, fmt.Errorf("read the site: %w", err)
	}
	return s, nil
}

// serviceNamed finds a Service by name or id.
func serviceNamed(tx store.Tx, name string) (provisioning.Service, error) {
	s, err := tx.Services().ByName(name)
	if errors.Is(err, store.ErrNotFound) {
		s, err = tx.Services().ByID(provisioning.ServiceID(name))
	}
	if errors.Is(err, store.ErrNotFound) {
		return s, provisioning.Errorf(provisioning.NotFound, "there is no service named %q", clean(name, maxShort)).
			WithHint("the list of services shows the names")
	}
	if err != nil {
		return s, fmt.Errorf("read the service: %w", err)
	}
	return s, nil
}
