package spool

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/towpath/towpath/proxy/spool/seal"
)

// Spool is the durable Queue in one directory. Make it with Open and end it with Close, after its producers and deliverers. It is safe
// for concurrent use.
type Spool struct {
	opts Options
	log  *slog.Logger
	dir  string
	vol  volume
	sync groupSync // of the folder of items
	// journal is where small items are.
	journal journal
	ops     sync.WaitGroup
	// buffers holds *bufio.Writer between writers.
	buffers sync.Pool
	// images holds *[]byte for small items in the making.
	images sync.Pool

	// sealers holds *seal.Writer between writers.
	sealers sync.Pool
	epochMu sync.Mutex // held while a data key is made
	// prioritizing is held while SetPriority writes.
	prioritizing sync.Mutex

	mu          sync.Mutex
	closed      bool
	ended       chan struct{} // closed by Close
	queues      map[string]*queue
	entries     map[ID]*entry
	used        int64 // bytes of all files of items, finished or not
	total       gate  // of used
	space       gate  // of what is free on the disk
	next        uint64
	reserved    uint64 // sequence numbers below it may be given out
	quarantined int
	onDelivered func(Item, Receipt)
	onChange    func(Change)
	sealTo      seal.PublicKey
	epochs      map[seal.EpochID]*epoch
	current     *epoch // for new items
	began       time.Time
}

var _ Queue = (*Spool)(nil)

// Open takes the directory over, making it if need be, and recovers what is in it. It returns ErrLocked when another process has it.
func Open(dir string, opts Options) (*Spool, error) {
	v, err := openVolume(dir)
	if err != nil {
		return nil, fmt.Errorf("open the queue: %w", err)
	}
	s, err := open(v, opts)
	if err != nil {
		_ = v.close()
		return nil, fmt.Errorf("open the queue: %w", err)
	}
	s.dir = dir
	return s, nil
}

// Dir returns the directory that Open was given. A deliverer may keep books of its own in a folder "books" of it, which the Spool
// leaves alone.
func (s *Spool) Dir() string { return s.dir }

func open(v volume, opts Options) (*Spool, error) {
	opts = opts.withDefaults()
	s := &Spool{
		opts: opts, log: opts.Log.With("subsystem", "spool"), vol: v, ended: make(chan struct{}),
		queues: map[string]*queue{}, entries: map[ID]*entry{}, epochs: map[seal.EpochID]*epoch{},
	}
	s.sync.run = func() error { return v.sync(itemsDir) }
	s.journal.spool, s.journal.segmentSize, s.journal.slack = s, segmentSize, journalSlack
	if opts.segmentSize > 0 {
		s.journal.segmentSize, s.journal.slack = opts.segmentSize, opts.segmentSize
	}
	if err := s.rebuild(); err != nil {
		return nil, err
	}
	return s, nil
}

// Close ends the Spool: it waits for calls under way, wakes those who wait in Next, and gives the directory free. Writers and Leases
// that are still open can no longer be ended; their items are as if the process had been killed.
func (s *Spool) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.ended)
	s.mu.Unlock()
	s.ops.Wait()
	if err := errors.Join(s.journal.close(), s.vol.close()); err != nil {
		return fmt.Errorf("close the queue: %w", err)
	}
	return nil
}

// begin keeps the directory open until s.ops.Done.
func (s *Spool) begin() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	s.ops.Add(1)
	return nil
}

func (s *Spool) queueLocked(name string) *queue {
	q := s.queues[name]
	if q == nil {
		q = newQueue(name, s.opts.Ordered(name))
		s.queues[name] = q
	}
	return q
}

// insertLocked takes an entry into the books. Its bytes are counted already.
func (s *Spool) insertLocked(e *entry) {
	s.entries[e.id] = e
	e.waiting = e.locked()
	e.queue.entries[e.id] = e
	switch e.state {
	case StateQueued:
		e.queue.add(e)
	case StateParked:
		e.queue.park(e)
	case StateCarried: // in no heap: it is nobody's turn
	}
}

// forgetLocked is the opposite of insertLocked.
func (s *Spool) forgetLocked(e *entry) {
	delete(s.entries, e.id)
	delete(e.queue.entries, e.id)
	e.leaveLocked()
	e.left = true
	s.countLocked(e.queue, -e.bytes)
	s.returnEpochLocked(e.epoch)
	e.queue.withdraw(e)
}

// releaseLocked ends the lease of an entry.
func (e *entry) releaseLocked() {
	e.leased = false
	e.queue.leases--
	e.queue.notify()
}

// Next waits for the oldest deliverable item of a queue and leases it.
func (s *Spool) Next(ctx context.Context, name string) (Lease, error) {
	if err := validQueue(name); err != nil {
		return nil, err
	}
	for {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("wait for an item: %w", ctx.Err())
		}
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			return nil, ErrClosed
		}
		q := s.queueLocked(name)
		e, wait := q.take(time.Now())
		if e != nil {
			s.ops.Add(1)
			s.mu.Unlock()
			l := s.lease(e)
			s.ops.Done()
			if l == nil {
				continue
			}
			return l, nil
		}
		wake := q.waiter()
		s.mu.Unlock()
		if err := s.waitFor(ctx, wake, wait); err != nil {
			return nil, err
		}
	}
}

func (s *Spool) waitFor(ctx context.Context, wake <-chan struct{}, wait time.Duration) error {
	var due <-chan time.Time
	if wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		due = t.C
	}
	select {
	case <-wake:
	case <-due:
	case <-s.ended:
		return ErrClosed
	case <-ctx.Done():
		return fmt.Errorf("wait for an item: %w", ctx.Err())
	}
	return nil
}

// lease reads the description of an entry taken by Next. It returns nil when the item cannot be delivered now: a damaged one is set
// aside, any other trouble of the disk puts it back for later.
func (s *Spool) lease(e *entry) *lease {
	d, err := s.describe(e)
	if err == nil && !d.locked {
		return &lease{spool: s, entry: e, item: e.item(d)}
	}
	damaged := errors.Is(err, ErrCorrupt) || errors.Is(err, fs.ErrNotExist)
	kept := damaged && e.shared && !s.setAside(e)
	s.mu.Lock()
	defer s.mu.Unlock()
	e.releaseLocked()
	if damaged {
		s.log.Error("an item is damaged and was set aside", "item", e.id, "queue", e.queue.name, "error", err)
		keepEpochLocked(e.epoch)
		if kept && !e.left { // then it goes with its segment
			e.left = true
			e.segment.stuck++
		}
		s.forgetLocked(e)
		if !e.shared {
			s.quarantineLocked(itemName(e.id, e.ext), string(e.id))
		}
		return nil
	}
	if err == nil {
		e.waiting = true
		e.queue.add(e)
		return nil
	}
	s.log.Warn("an item could not be read, it will be tried again", "item", e.id, "queue", e.queue.name, "error", err)
	e.lastError = limitText(err.Error())
	e.notBefore = time.Now().Add(s.opts.Backoff.Min)
	e.queue.lastError = e.lastError
	e.queue.add(e)
	return nil
}

// describe reads what the file of an entry says, as far as it can be opened.
func (s *Spool) describe(e *entry) (description, error) {
	d, err := s.readDescription(e)
	if err == nil {
		err = s.reveal(&d)
	}
	return d, err
}

func (s *Spool) readDescription(e *entry) (description, error) {
	f, err := s.openItem(e)
	if err != nil {
		return description{}, err
	}
	defer func() { _ = f.Close() }()
	return readDescription(f, e.id)
}

func (e *entry) item(d description) Item {
	d.Priority = int(e.priority)
	return Item{
		ID: e.id, Meta: d.Meta, Size: d.Size, SHA256: d.SHA256, Created: d.Created, Locked: d.locked,
		State: e.state, Leased: e.leased, Attempts: e.attempts, LastError: e.lastError, NotBefore: e.notBefore,
	}
}

// quarantineLocked moves a file out of the way, and reports whether it is.
func (s *Spool) quarantineLocked(from, stem string) bool {
	if err := s.vol.rename(from, s.asideNameLocked(stem)); err != nil {
		s.log.Error("an item could not be set aside", "error", err)
		return false
	}
	s.quarantined++
	for _, dir := range []string{quarantineDir, folderOf(from)} {
		if err := s.vol.sync(dir); err != nil {
			s.log.Error("setting an item aside could not be synced", "error", err)
		}
	}
	return true
}

func folderOf(name string) string {
	dir, _, _ := strings.Cut(name, "/")
	return dir
}

// asideNameLocked is a name in the quarantine that was never used.
func (s *Spool) asideNameLocked(stem string) string {
	name := fmt.Sprintf("%s/%s-%s.bad", quarantineDir, stem, newID(s.next))
	s.next++
	return name
}

// Stats returns exact counts of all queues that were ever used since Open or hold items, sorted by name. Parked and carried items count
// in Bytes and OldestCreated, too.
func (s *Spool) Stats() []QueueStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]QueueStats, 0, len(s.queues))
	for _, q := range s.queues {
		list = append(list, q.stats())
	}
	slices.SortFunc(list, func(a, b QueueStats) int { return strings.Compare(a.Queue, b.Queue) })
	return list
}

// OnDelivered has fn hear of each item that its receiver has, by Lease.Done or Resolve, before it is forgotten. After a crash in between it
// hears of it again. fn may be called by several goroutines.
func (s *Spool) OnDelivered(fn func(Item, Receipt)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onDelivered = fn
}

func (s *Spool) tellDelivered(it Item, r Receipt) {
	s.mu.Lock()
	fn := s.onDelivered
	s.mu.Unlock()
	if fn != nil {
		fn(it, r)
	}
	s.tell(Change{Item: it, Step: StepDelivered, Receipt: r})
}

// Usage is how much of its space a Spool takes.
type Usage struct {
	// Bytes is what all items take, with their descriptions and with those being written.
	Bytes int64 `json:"bytes"`
	// JournalBytes is what the files of the journal take. Of the items in them that are forgotten, up to 8 MiB more than of the others are there still,
	// besides the two segments of 4 MiB at its ends.
	JournalBytes int64 `json:"journal_bytes"`
	// MaxBytes is the quota, zero for none.
	MaxBytes int64 `json:"max_bytes"`
	// FreeBytes is left on the filesystem; a quarter above MinFreeBytes new items are refused.
	FreeBytes    int64 `json:"free_bytes"`
	MinFreeBytes int64 `json:"min_free_bytes"`
	// Quarantined counts files set aside because they were damaged, since ever. An operator must look at them.
	Quarantined int `json:"quarantined"`
	// Sealed means that new items are encrypted. Plain counts those that are not, Locked those whose key is not there.
	Sealed bool `json:"sealed"`
	Plain  int  `json:"plain"`
	Locked int  `json:"locked"`
}

// Usage measures.
func (s *Spool) Usage() (Usage, error) {
	if err := s.begin(); err != nil {
		return Usage{}, err
	}
	defer s.ops.Done()
	free, err := s.vol.free()
	if err != nil {
		return Usage{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	u := Usage{
		Bytes: s.used, JournalBytes: s.journal.size.Load(), MaxBytes: s.opts.MaxBytes, FreeBytes: free, MinFreeBytes: max(s.opts.MinFreeBytes, 0),
		Quarantined: s.quarantined, Sealed: !s.sealTo.IsZero(),
	}
	for _, e := range s.entries {
		switch {
		case e.epoch == nil:
			u.Plain++
		case e.locked():
			u.Locked++
		}
	}
	return u, nil
}
