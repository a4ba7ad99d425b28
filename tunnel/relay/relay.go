package relay

import (
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.zx2c4.com/wireguard/conn"

	"github.com/towpath/towpath/tunnel"
)

// Options are the parts that do not change during the life of a Relay.
type Options struct {
	// File is where the table is kept; empty keeps it in memory alone.
	File   string
	Limits Limits
	// Log may be nil.
	Log *slog.Logger
}

// Relay is a Table with a port. It is safe for concurrent use.
type Relay struct {
	file string
	log  *slog.Logger
	// active says that there is somebody to relay for. Without, a packet costs the device one look at it.
	active atomic.Bool
	// unsent are packets that the system did not take.
	unsent atomic.Uint64
	look   chan struct{}

	saving    sync.Mutex // held while the file is written
	mu        sync.Mutex
	table     *Table
	endpoints map[netip.AddrPort]conn.Endpoint
	waiting   waiting
}

const maxEndpoints = 1 << 17

// Times of the background work.
const (
	// lookEvery is how often the device is asked where its peers are when nothing points to a change, lookSoon how long it has to take in a
	// packet that does. lookPause is the least time between two looks, which also take no more than a twentieth of a core.
	lookEvery = 5 * time.Second
	lookSoon  = 20 * time.Millisecond
	lookPause = 200 * time.Millisecond
	lookShare = 20
	// saveEvery is how much of what it has learned a relay that is killed may forget.
	saveEvery = 10 * time.Second
	// tellEvery is how often the log has what was done.
	tellEvery = 10 * time.Minute
)

// New makes a Relay that goes on from its file. A file that cannot be read is no reason not to start: it is logged, and the relay admits
// nobody until Admit.
func New(o Options) *Relay {
	r := &Relay{
		file: o.File, log: o.Log, look: make(chan struct{}, 1), table: NewTable(o.Limits), endpoints: map[netip.AddrPort]conn.Endpoint{},
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if r.file == "" {
		return r
	}
	s, err := readFile(r.file)
	if err == nil {
		err = r.table.restore(time.Now(), s)
	}
	if err != nil {
		r.log.Warn("the relay starts without what it knew", "file", r.file, "error", err)
		r.table = NewTable(o.Limits)
	}
	r.active.Store(len(r.table.list) > 0)
	return r
}

// Admit makes a what holds from now on, see Table.Admit, and keeps it in the file. A file that cannot be written is logged: it is for later.
func (r *Relay) Admit(a Admission) error {
	r.mu.Lock()
	err := r.table.Admit(a)
	r.active.Store(len(r.table.list) > 0)
	r.mu.Unlock()
	if err != nil {
		return err
	}
	r.lookAgain()
	if err := r.save(); err != nil {
		r.log.Warn("whom the relay admits is not kept", "error", err)
	}
	return nil
}

// Device is what a relay asks where its peers are.
type Device interface {
	Status(ctx context.Context) (tunnel.Status, error)
}

// Run asks dev, the device whose Bind this is, where its peers are, and keeps the table in its file. It is called once, and returns when
// ctx is done and the table is written.
func (r *Relay) Run(ctx context.Context, dev Device) error {
	saving, telling, due := time.NewTicker(saveEvery), time.NewTicker(tellEvery), time.NewTimer(0)
	defer saving.Stop()
	defer telling.Stop()
	defer due.Stop()
	ready, next := time.Now(), time.Now()
	var kept, told Counters
	for {
		select {
		case <-ctx.Done():
			return r.save()
		case <-saving.C:
			now := r.Counters()
			if now.Packets == kept.Packets && now.Located == kept.Located {
				continue
			}
			if err := r.save(); err != nil {
				r.log.Warn("what the relay has learned is not kept", "error", err)
				continue
			}
			kept = now
		case <-telling.C:
			told = r.tell(told)
		case <-r.look:
			// Only ever sooner: whoever sends us hints without end must not put the look off.
			if wait := max(lookSoon, time.Until(ready)); wait < time.Until(next) {
				next = time.Now().Add(wait)
				due.Reset(wait)
			}
		case <-due.C:
			pause := r.locate(ctx, dev)
			ready, next = time.Now().Add(pause), time.Now().Add(max(lookEvery, pause))
			due.Reset(time.Until(next))
		}
	}
}

// tell logs what was done since the last time, if it was anything.
func (r *Relay) tell(before Counters) Counters {
	c := r.Counters()
	if c.Packets != before.Packets || !maps.Equal(c.Dropped, before.Dropped) {
		r.log.Info("relayed since the start", "packets", c.Packets, "bytes", c.Bytes, "sessions", c.Sessions, "members", c.Members,
			"located", c.Located, "dropped", c.Dropped)
	}
	return c
}

// locate asks the device once, and returns how long not to ask again.
func (r *Relay) locate(ctx context.Context, dev Device) time.Duration {
	if !r.active.Load() {
		return lookPause
	}
	began := time.Now()
	st, err := dev.Status(ctx)
	if err != nil {
		if ctx.Err() == nil {
			r.log.Warn("the relay cannot see where its members are", "error", err)
		}
		return lookEvery
	}
	places := make([]Place, 0, len(st.Peers))
	for _, p := range st.Peers {
		places = append(places, Place{Key: p.PublicKey, At: p.Endpoint, Handshake: p.LastHandshake})
	}
	r.mu.Lock()
	r.table.Locate(time.Now(), places)
	r.mu.Unlock()
	r.waiting.again(r)
	return max(lookPause, lookShare*time.Since(began))
}

// lookAgain has the device asked soon.
func (r *Relay) lookAgain() {
	select {
	case r.look <- struct{}{}:
	default:
	}
}

func (r *Relay) noteOwn(index uint32, peer netip.AddrPort) {
	if !r.active.Load() {
		return
	}
	r.mu.Lock()
	r.table.expire(time.Now())
	r.table.NoteOwn(index, peer)
	r.mu.Unlock()
}

// Counters returns what was done so far.
func (r *Relay) Counters() Counters {
	r.mu.Lock()
	c := r.table.Counters()
	r.mu.Unlock()
	if n := r.unsent.Load(); n > 0 {
		c.Dropped[Unsent] = n
	}
	return c
}

// save writes the file, one at a time.
func (r *Relay) save() error {
	if r.file == "" {
		return nil
	}
	r.saving.Lock()
	defer r.saving.Unlock()
	r.mu.Lock()
	s := r.table.save()
	r.mu.Unlock()
	return writeFile(r.file, s)
}
