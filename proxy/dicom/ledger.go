package dicom

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/towpath/towpath/proxy/spool"
)

// LedgerOptions bound a Ledger. The zero value is good.
type LedgerOptions struct {
	// MaxEntries and MaxAge bound what is remembered of delivered objects. Defaults 32768, which take about 6 MB of memory and 4 MB
	// of disk, and 24 h: after that an archive that cannot be asked gets an object again that it may have deleted.
	MaxEntries int
	MaxAge     time.Duration
}

// The defaults of LedgerOptions.
const (
	DefaultLedgerEntries = 32 << 10
	DefaultLedgerAge     = 24 * time.Hour
)

const (
	// markStep is how many items ahead a ledger says may have been sent: it is synced once for so many.
	markStep = 32
	// The bounds of what is remembered of items that are not delivered yet.
	maxDoubts  = 4096
	maxSettled = 64 << 10
)

// Ledger remembers for one queue what its Sink must not forget: what was delivered, so that the same object is not delivered twice,
// and what may have been sent when the process died, so that the archive is asked before it is sent again. It outlives the Sinks that
// use it one after the other. It is safe for concurrent use; two at a time on one file are not.
//
// Of what happened before a restart it knows, in at most 64 bytes for an item, salted digests of objects and contents, and one
// number: items from it on were certainly not sent. That number is synced before the item is sent, the line of a delivered object before
// its item leaves the queue: a device that heard no answer may have sent the object a second time, and that item has another number.
type Ledger struct {
	opts LedgerOptions

	mu    sync.Mutex
	file  *ledgerFile // nil in memory
	torn  bool        // what is in the file is not certain
	lines []delivered // by age
	sums  map[delivered]time.Time
	known map[objectKey]int // contents per object

	opened     time.Time
	mark       uint64 // items below it may have been sent
	doubtBelow uint64 // items below it may have been sent by a process that died
	settled    map[spool.ID]struct{}
	doubts     map[spool.ID]*doubt
	held       map[objectKey][]holder
	holding    int // entries of held
	sweepAt    int // when held is looked through next
	strikes    map[spool.ID]strike
	counts     LedgerCounts
}

// LedgerCounts are what a Ledger has seen since it was opened, for conditions and metrics.
type LedgerCounts struct {
	// Delivered objects were answered for or found at the archive.
	Delivered uint64 `json:"delivered"`
	// Duplicates were not sent, since the same bytes had been delivered under the same UID.
	Duplicates uint64 `json:"duplicates"`
	// Conflicts were delivered although other bytes had been delivered under the same UID: the archive's administrator must look
	// which of them is the right one. LastConflict is when.
	Conflicts    uint64    `json:"conflicts"`
	LastConflict time.Time `json:"last_conflict,omitzero"`
	// InDoubt is how many objects are now known to be neither here alone nor there for certain.
	InDoubt int `json:"in_doubt"`
	// FoundPresent and FoundAbsent are outcomes of asking; Resent were sent again because the archive cannot be asked.
	FoundPresent uint64 `json:"found_present"`
	FoundAbsent  uint64 `json:"found_absent"`
	Resent       uint64 `json:"resent"`
	// GaveUp were parked because they failed again and again.
	GaveUp uint64 `json:"gave_up"`
}

// doubt is one object in doubt.
type doubt struct {
	since       time.Time // by this process's clock
	asked       int       // failed questions
	transaction *transaction
}

// OpenLedger opens the ledger in a file, which is made if it is missing, with its folder. A damaged one is replaced: then everything
// that is queued is taken to be in doubt.
func OpenLedger(path string, opts LedgerOptions) (*Ledger, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make the ledger's folder: %w", err)
	}
	l := newLedger(opts)
	file, damaged, err := openLedgerFile(path, func(r record) {
		switch r.kind {
		case recordMark:
			l.mark = max(l.mark, r.number)
		case recordDelivered:
			l.addLocked(r.line)
		}
	})
	if err != nil {
		return nil, err
	}
	l.file, l.doubtBelow = file, l.mark
	if damaged {
		l.doubtBelow = math.MaxUint64
	}
	l.expireLocked(time.Now())
	if err := l.rewriteLocked(); err != nil {
		return nil, err
	}
	return l, nil
}

// newLedger returns a Ledger in memory, for which a restart has no past.
func newLedger(opts LedgerOptions) *Ledger {
	if opts.MaxEntries <= 0 {
		opts.MaxEntries = DefaultLedgerEntries
	}
	if opts.MaxAge <= 0 {
		opts.MaxAge = DefaultLedgerAge
	}
	return &Ledger{
		opts: opts, opened: time.Now(), sums: map[delivered]time.Time{}, known: map[objectKey]int{}, settled: map[spool.ID]struct{}{},
		doubts: map[spool.ID]*doubt{}, held: map[objectKey][]holder{}, sweepAt: firstSweep, strikes: map[spool.ID]strike{},
	}
}

// Close syncs and closes the file. Use the Ledger no more.
func (l *Ledger) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	return l.file.close()
}

// Counts returns what happened since the Ledger was opened.
func (l *Ledger) Counts() LedgerCounts {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.counts
	c.InDoubt = 0
	for _, d := range l.doubts {
		if !d.since.IsZero() {
			c.InDoubt++
		}
	}
	return c
}

// InDoubt returns the items that the archive may have or not.
func (l *Ledger) InDoubt() []spool.ID {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []spool.ID
	for id, d := range l.doubts {
		if !d.since.IsZero() {
			out = append(out, id)
		}
	}
	return out
}

// line returns how an item is remembered. The content is its bytes together with what says how to read them.
func (l *Ledger) line(it spool.Item, k kind, instance string, now time.Time) delivered {
	l.mu.Lock()
	defer l.mu.Unlock()
	var salt []byte
	if l.file != nil {
		salt = l.file.salt[:]
	}
	digest := func(parts ...string) [sha256.Size]byte {
		var b bytes.Buffer
		b.Write(salt)
		for _, p := range parts {
			b.WriteString(p)
			b.WriteByte(0)
		}
		return sha256.Sum256(b.Bytes())
	}
	object, content := digest("object", instance), digest("content", k.class, k.syntax, string(it.SHA256[:]))
	return delivered{object: objectKey(object[:16]), content: contentKey(content[:16]), at: now}
}

func (d delivered) untimed() delivered { return delivered{object: d.object, content: d.content} }

// seen returns when this content of the object was delivered, zero for never, and whether another one was.
func (l *Ledger) seen(d delivered) (same time.Time, other bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expireLocked(d.at)
	same, ok := l.sums[d.untimed()]
	if ok {
		return same, l.known[d.object] > 1
	}
	return same, l.known[d.object] > 0
}

// state is how an item stands when its turn comes.
func (l *Ledger) state(id spool.ID) deliveryState {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.doubts[id]; ok {
		return stateInDoubt
	}
	if _, ok := l.settled[id]; !ok {
		if n, ok := number(id); ok && n < l.doubtBelow {
			return stateInDoubt
		}
	}
	return stateSynced
}

// doubt returns what is known of an item in doubt.
func (l *Ledger) doubt(id spool.ID, now time.Time) *doubt {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.doubts[id]
	if d == nil {
		d = &doubt{since: l.opened} // it was sent before
		l.doubts[id] = d
	}
	if d.since.IsZero() {
		d.since = now
	}
	return d
}

// begin notes, synced, that an item is about to be sent: after a crash from here on it is in doubt.
func (l *Ledger) begin(id spool.ID) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, numbered := number(id)
	if l.file != nil && numbered && n >= l.mark {
		ahead := n + markStep
		before := l.mark
		l.mark = ahead
		if err := l.writeLocked(record{kind: recordMark, number: ahead}); err != nil {
			l.mark = before
			return err
		}
	}
	if len(l.doubts) >= maxDoubts {
		l.forgetDoubtsLocked()
	}
	l.doubts[id] = &doubt{}
	return nil
}

// forgetDoubtsLocked trades knowledge for room: everything up to the highest item that was in doubt is so from now on.
func (l *Ledger) forgetDoubtsLocked() {
	for id := range l.doubts {
		if n, ok := number(id); ok {
			l.doubtBelow = max(l.doubtBelow, n+1)
		}
	}
	clear(l.doubts)
	clear(l.settled)
}

// unanswered notes that an item is in doubt since now.
func (l *Ledger) unanswered(id spool.ID, now time.Time) { l.doubt(id, now) }

// certain notes that the archive does not have the item.
func (l *Ledger) certain(id spool.ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.doubts, id)
	if n, ok := number(id); ok && n < l.doubtBelow {
		if len(l.settled) >= maxSettled {
			clear(l.settled) // they are asked for once more
		}
		l.settled[id] = struct{}{}
	}
}

// taken notes, synced, that the archive has the item. After an error it is known until a restart only, or until the file can be written.
func (l *Ledger) taken(id spool.ID, d delivered) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts.Delivered++
	l.leaveLocked(id, d.object)
	if _, again := l.sums[d.untimed()]; again {
		l.sums[d.untimed()] = d.at
		return nil
	}
	if l.known[d.object] > 0 {
		l.counts.Conflicts++
		l.counts.LastConflict = d.at
	}
	l.addLocked(d)
	l.expireLocked(d.at)
	if l.file == nil {
		return nil
	}
	if l.file.records >= 2*l.opts.MaxEntries+markStep {
		return l.rewriteLocked()
	}
	return l.writeLocked(record{kind: recordDelivered, line: d})
}

// writeLocked adds a record that l holds already, synced. Where a write or a sync has failed nobody knows what the file holds: it is replaced.
func (l *Ledger) writeLocked(r record) error {
	if l.torn {
		return l.rewriteLocked()
	}
	err := errors.Join(l.file.append(r), l.file.sync())
	l.torn = err != nil
	return err
}

// duplicate notes that the item need not be sent.
func (l *Ledger) duplicate(id spool.ID, object objectKey) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts.Duplicates++
	l.leaveLocked(id, object)
}

// left notes that an item is no longer to be delivered: it is parked.
func (l *Ledger) left(id spool.ID, object objectKey) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, inDoubt := l.doubts[id]
	l.leaveLocked(id, object)
	if inDoubt { // an operator may queue it again
		l.doubts[id] = &doubt{}
	}
}

func (l *Ledger) leaveLocked(id spool.ID, object objectKey) {
	delete(l.doubts, id)
	delete(l.settled, id)
	delete(l.strikes, id)
	l.releaseLocked(id, object)
}

// count changes the counts under the lock.
func (l *Ledger) count(f func(*LedgerCounts)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f(&l.counts)
}

// sync makes durable what could not be written before.
func (l *Ledger) sync() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil || !l.torn {
		return nil
	}
	return l.rewriteLocked()
}

func (l *Ledger) addLocked(d delivered) {
	if _, again := l.sums[d.untimed()]; again {
		return
	}
	l.lines = append(l.lines, d)
	l.sums[d.untimed()] = d.at
	l.known[d.object]++
}

// expireLocked forgets what is too old or too much.
func (l *Ledger) expireLocked(now time.Time) {
	n := max(0, len(l.lines)-l.opts.MaxEntries)
	for n < len(l.lines) && now.Sub(l.lines[n].at) > l.opts.MaxAge {
		n++
	}
	for _, d := range l.lines[:n] {
		delete(l.sums, d.untimed())
		if l.known[d.object]--; l.known[d.object] == 0 {
			delete(l.known, d.object)
		}
	}
	l.lines = l.lines[n:]
}

func (l *Ledger) rewriteLocked() error {
	records := []record{{kind: recordMark, number: l.mark}}
	for _, d := range l.lines {
		records = append(records, record{kind: recordDelivered, line: d})
	}
	err := l.file.rewrite(records)
	l.torn = err != nil
	return err
}

// number is the place of an item in its spool. IDs of other queues than a spool have none.
func number(id spool.ID) (uint64, bool) {
	n, err := strconv.ParseUint(string(id), 16, 64)
	return n, err == nil
}
