package dicom

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// The bounds of what a Pledges keeps.
const (
	maxPledges       = 1024
	maxPledgeObjects = 128 << 10 // in all pledges
	maxPledgeFile    = 4 << 20   // bytes
	// pledgeAge is how long a request is kept, with or without an outcome.
	pledgeAge = 7 * 24 * time.Hour
	pledgeExt = ".pledge"
)

var errPledgesFull = errors.New("too many requests for storage commitment wait")

// Pledges are the requests of devices for storage commitment about objects of one queue. Each is on the disk, synced, before the device
// hears that it was taken, and until it has heard the outcome. It is safe for concurrent use; two at a time on one directory are not.
type Pledges struct {
	root *os.Root
	log  *slog.Logger
	// changed wakes the worker.
	changed chan struct{}

	mu       sync.Mutex
	all      map[string]*pledge // by name
	objects  int
	attached map[string]int // associations on which a device can be told, by its AE title
	counts   PledgeCounts
}

// PledgeCounts are what became of requests for storage commitment, for conditions and metrics.
type PledgeCounts struct {
	// Waiting are those without an outcome, Untold those whose device has not heard theirs.
	Waiting int `json:"waiting"`
	Untold  int `json:"untold"`
	// Told is how many devices have heard an outcome since the start, Failures how many of these outcomes had failures, and Lost how many
	// outcomes no device wanted to hear within a week.
	Told     uint64 `json:"told"`
	Failures uint64 `json:"failures"`
	Lost     uint64 `json:"lost"`
	// Oldest is when the oldest of those that are kept was received, and Problem why one of them does not get on.
	Oldest  time.Time `json:"oldest,omitzero"`
	Problem string    `json:"problem,omitempty"`
}

// OpenPledges reads the requests in a directory, which is made if it is missing. What a crash has left half written is removed: its device
// was not told that it was taken.
func OpenPledges(dir string, log *slog.Logger) (*Pledges, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder for storage commitments: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open the folder for storage commitments: %w", err)
	}
	p := &Pledges{
		root: root, log: orDiscard(log), changed: make(chan struct{}, 1), all: map[string]*pledge{}, attached: map[string]int{},
	}
	names, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read the folder for storage commitments: %w", err), root.Close())
	}
	for _, e := range names {
		if err := p.load(e.Name()); err != nil {
			return nil, errors.Join(err, root.Close())
		}
	}
	return p, nil
}

func (p *Pledges) load(file string) error {
	if strings.HasPrefix(file, incoming) {
		if err := p.root.Remove(file); err != nil {
			return fmt.Errorf("remove what a crash has left: %w", withoutPath(err))
		}
		return nil
	}
	name, ours := strings.CutSuffix(file, pledgeExt)
	if !ours {
		return nil
	}
	info, err := p.root.Stat(file)
	if err != nil || info.Size() > maxPledgeFile {
		p.log.Error("a request for storage commitment cannot be read", "size", info, "error", withoutPath(err))
		return nil
	}
	b, err := p.root.ReadFile(file)
	g := &pledge{name: name}
	if err == nil {
		err = json.Unmarshal(b, g)
	}
	if err != nil || len(g.Objects) == 0 {
		// Its device asks again, or keeps its objects: both lose nothing.
		p.log.Error("a request for storage commitment is damaged and was left out", "error", withoutPath(err))
		return nil
	}
	p.all[name] = g
	p.objects += len(g.Objects)
	return nil
}

// Close gives the directory back. The worker must have ended.
func (p *Pledges) Close() error { return p.root.Close() }

// take keeps a request, synced. The same one a second time is kept once.
func (p *Pledges) take(g pledge) error {
	sum := sha256.Sum256([]byte(g.Calling + "\x00" + g.Called + "\x00" + g.Transaction))
	g.name = hex.EncodeToString(sum[:16])
	p.mu.Lock()
	defer p.mu.Unlock()
	if old := p.all[g.name]; old != nil {
		if !old.sameRequest(&g) {
			return errOtherObjects
		}
		return nil
	}
	if len(p.all) >= maxPledges || p.objects+len(g.Objects) > maxPledgeObjects {
		return errPledgesFull
	}
	if err := p.saveLocked(&g); err != nil {
		return err
	}
	p.all[g.name] = &g
	p.objects += len(g.Objects)
	p.wake()
	return nil
}

var errOtherObjects = errors.New("the transaction UID was used for other objects")

func (p *Pledges) wake() {
	select {
	case p.changed <- struct{}{}:
	default: // it is awake
	}
}

// saveLocked writes a request so that a crash leaves the old or the new one.
func (p *Pledges) saveLocked(g *pledge) error {
	b, err := json.Marshal(g)
	if err != nil {
		return fmt.Errorf("encode a request for storage commitment: %w", err)
	}
	temp := incoming + g.name
	f, err := p.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("keep a request for storage commitment: %w", withoutPath(err))
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = p.root.Rename(temp, g.name+pledgeExt)
	}
	if err == nil {
		err = p.syncDir()
	}
	if err != nil {
		return fmt.Errorf("keep a request for storage commitment: %w", withoutPath(err))
	}
	return nil
}

func (p *Pledges) syncDir() error {
	d, err := p.root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// keep notes what has changed in a request.
func (p *Pledges) keep(g *pledge, change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	if p.all[g.name] == nil {
		return
	}
	if err := p.saveLocked(g); err != nil {
		p.log.Error("the state of a storage commitment was not saved", "error", err)
	}
}

// forget ends a request.
func (p *Pledges) forget(g *pledge, count func(*PledgeCounts)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.all[g.name] == nil {
		return
	}
	delete(p.all, g.name)
	p.objects -= len(g.Objects)
	count(&p.counts)
	if err := errors.Join(p.root.Remove(g.name+pledgeExt), p.syncDir()); err != nil {
		p.log.Error("a storage commitment that has ended was not removed", "error", withoutPath(err))
	}
}

// list returns the requests, oldest first.
func (p *Pledges) list() []*pledge {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]*pledge, 0, len(p.all))
	for _, g := range p.all {
		out = append(out, g)
	}
	slices.SortFunc(out, func(a, b *pledge) int { return a.Received.Compare(b.Received) })
	return out
}

// Counts returns what happened since OpenPledges, and what waits.
func (p *Pledges) Counts() PledgeCounts {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.counts
	for _, g := range p.all {
		if g.Decided.IsZero() {
			c.Waiting++
		} else {
			c.Untold++
		}
		if c.Oldest.IsZero() || g.Received.Before(c.Oldest) {
			c.Oldest = g.Received
			c.Problem = g.problem
		}
		if c.Problem == "" {
			c.Problem = g.problem
		}
	}
	return c
}

// attach says that a device can be told on an association of its own, until the function that is returned is called.
func (p *Pledges) attach(calling string) func() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.attached[calling]++
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.attached[calling]--; p.attached[calling] == 0 {
			delete(p.attached, calling)
			p.wake()
		}
	}
}

// claim returns an outcome that the device does not know and that nobody else is telling; waits says that there are, or may be, more.
func (p *Pledges) claim(calling, called string) (g *pledge, waits bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, g := range p.all {
		if g.Calling != calling || g.Called != called {
			continue
		}
		waits = true
		if !g.Decided.IsZero() && !g.telling {
			g.telling = true
			return g, true
		}
	}
	return nil, waits
}

// tellable claims an outcome for an association of our own.
func (p *Pledges) tellable(g *pledge, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if g.Decided.IsZero() || g.telling || p.attached[g.Calling] > 0 || now.Before(g.next) || p.all[g.name] == nil {
		return false
	}
	g.telling = true
	return true
}

// release gives a claim back, with the reason why nothing came of it.
func (p *Pledges) release(g *pledge, problem string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g.telling = false
	if problem != "" {
		g.problem = problem
	}
}

// told ends a request whose device has heard the outcome.
func (p *Pledges) told(g *pledge) {
	event, _ := g.event(encoding{})
	p.forget(g, func(c *PledgeCounts) {
		c.Told++
		if event == eventFailuresExist {
			c.Failures++
		}
	})
}
