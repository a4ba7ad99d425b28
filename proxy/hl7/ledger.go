package hl7

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/towpath/towpath/proxy/spool"
)

// What a zero LedgerOptions means.
const (
	DefaultLedgerEntries = 200_000
	DefaultLedgerAge     = 72 * time.Hour
)

// LedgerOptions bound what a Ledger remembers.
type LedgerOptions struct {
	// Entries is the most messages remembered, Age for how long; at least half of either is always kept. Zero means the default.
	Entries int
	Age     time.Duration
	// Log may be nil.
	Log *slog.Logger
}

// Ledger remembers the messages that were taken lately, so that a sender that did not get its answer can send again without effect. A
// message is the same when destination, sender (MSH-3 and 4), control ID (MSH-10) and every byte are; of all that only digests are kept.
//
// Its files are the newest two of a row: when the current one holds half of what may be kept, it takes the place of the previous one. An
// entry of a queued message needs no sync before the answer, since the queue holds the message until Ensure has synced the entry: what a
// crash takes away, Adopt finds in the queue. It is safe for concurrent use. A nil Ledger remembers nothing.
type Ledger struct {
	dir  string
	opts LedgerOptions
	log  *slog.Logger

	syncing sync.Mutex

	mu       sync.Mutex
	file     *os.File
	size     int64
	began    time.Time // when the oldest entry of current was made
	current  ledgerPage
	previous ledgerPage
	inFlight map[ledgerKey]chan struct{}
	written  uint64 // entries written to the file since it was opened, and before
	synced   uint64
}

// ledgerKey stands for destination, sender and control ID.
type ledgerKey [16]byte

func (k ledgerKey) String() string { return hex.EncodeToString(k[:]) }

func parseKey(s string) (k ledgerKey, ok bool) {
	if len(s) != 2*len(k) {
		return k, false
	}
	_, err := hex.Decode(k[:], []byte(s))
	return k, err == nil
}

// ledgerPage is what one file holds.
type ledgerPage struct {
	entries map[identity]ledgerEntry
	// keys tell a control ID that is used again. Senders of one name may use the same ones, each for messages of its own.
	keys map[ledgerKey]time.Time
}

func newLedgerPage() ledgerPage {
	return ledgerPage{entries: map[identity]ledgerEntry{}, keys: map[ledgerKey]time.Time{}}
}

func (p ledgerPage) put(id identity, e ledgerEntry) {
	p.entries[id] = e
	p.keys[id.key] = e.at
}

type ledgerEntry struct {
	at     time.Time
	ack    []byte // the answer, as bytes; nil when it can be made again
	number uint64 // among those written
}

// identity is what makes a message the same as another.
type identity struct {
	key    ledgerKey
	digest [sha256.Size]byte
}

// identify reads the identity of a message for one destination.
func identify(destination string, h Header, msg []byte) identity {
	d := sha256.New()
	for _, part := range []string{destination, h.Field(3), h.Field(4), h.ControlID()} {
		_, _ = fmt.Fprintf(d, "%d:%s", len(part), part)
	}
	return identity{key: ledgerKey(d.Sum(nil)[:16]), digest: sha256.Sum256(msg)}
}

// OpenLedger reads what is remembered in dir, making it if need be. A directory belongs to one Ledger at a time.
func OpenLedger(dir string, opts LedgerOptions) (*Ledger, error) {
	if opts.Entries <= 0 {
		opts.Entries = DefaultLedgerEntries
	}
	if opts.Age <= 0 {
		opts.Age = DefaultLedgerAge
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	l := &Ledger{dir: dir, opts: opts, log: opts.Log.With("subsystem", "hl7"), inFlight: map[ledgerKey]chan struct{}{}}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of the message ledger: %w", err)
	}
	var err error
	if l.previous, _, err = readLedger(filepath.Join(dir, ledgerPrevious)); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, ledgerCurrent)
	var size int64
	if l.current, size, err = readLedger(path); err != nil {
		return nil, err
	}
	if l.file, err = openAppend(path, size); err != nil {
		return nil, err
	}
	l.size, l.began = size, time.Now()
	for _, e := range l.current.entries {
		if e.at.Before(l.began) {
			l.began = e.at
		}
	}
	return l, nil
}

// Close gives the files up. Nothing may be asked afterwards.
func (l *Ledger) Close() error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := errors.Join(l.file.Sync(), l.file.Close()); err != nil {
		return fmt.Errorf("close the message ledger: %w", err)
	}
	return nil
}

// verdict says what a Ledger knows of a message.
type verdict int

const (
	// unknown messages were not taken lately.
	unknown verdict = iota
	// repeated ones were: they must not be delivered again.
	repeated
	// reused means that another message of the same sender had the same control ID.
	reused
)

// begin asks for a message and keeps others with the same key out until release is called.
func (l *Ledger) begin(ctx context.Context, id identity) (v verdict, ack []byte, release func(), err error) {
	if l == nil {
		return unknown, nil, func() {}, nil
	}
	for {
		l.mu.Lock()
		other, busy := l.inFlight[id.key]
		if !busy {
			break
		}
		l.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return unknown, nil, nil, context.Cause(ctx)
		}
	}
	defer l.mu.Unlock()
	mine := make(chan struct{})
	l.inFlight[id.key] = mine
	release = func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.inFlight, id.key)
		close(mine)
	}
	if e, found := l.findLocked(id); found {
		return repeated, e.ack, release, nil
	}
	used := l.current.keys[id.key]
	if used.IsZero() {
		used = l.previous.keys[id.key]
	}
	if time.Since(used) < l.opts.Age {
		return reused, nil, release, nil
	}
	return unknown, nil, release, nil
}

func (l *Ledger) findLocked(id identity) (ledgerEntry, bool) {
	e, found := l.current.entries[id]
	if !found {
		e, found = l.previous.entries[id]
	}
	return e, found && time.Since(e.at) < l.opts.Age
}

// add remembers a message, and its answer unless that is nil. It is durable after Ensure.
func (l *Ledger) add(id identity, ack []byte) error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.addLocked(id, ack)
}

func (l *Ledger) addLocked(id identity, ack []byte) error {
	now := time.Now()
	held := len(l.current.entries)
	if held >= l.opts.Entries/2 || l.size > maxLedgerBytes || held > 0 && now.Sub(l.began) > l.opts.Age/2 {
		if err := l.rotateLocked(); err != nil {
			return err
		}
	}
	if len(l.current.entries) == 0 {
		l.began = now
	}
	if len(ack) > maxLedgerAck {
		ack = nil
	}
	e := ledgerEntry{at: now.Round(0), ack: ack, number: l.written + 1}
	record := ledgerRecord(id, e)
	if _, err := l.file.WriteAt(record, l.size); err != nil {
		_ = l.file.Truncate(l.size) // or the next record would overwrite the half one, and be found all the same
		return fmt.Errorf("write to the message ledger: %w", err)
	}
	l.size += int64(len(record))
	l.written++
	l.current.put(id, e)
	return nil
}

// ensure returns when the entry of a message is on disk, making it if need be.
func (l *Ledger) ensure(id identity, ack []byte) error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	e, found := l.findLocked(id)
	if !found {
		if err := l.addLocked(id, ack); err != nil {
			l.mu.Unlock()
			return err
		}
		e = l.current.entries[id]
	}
	l.mu.Unlock()
	return l.sync(e.number)
}

// sync makes the entries up to a number durable. Who waits for another's sync mostly finds its own entry synced, too.
func (l *Ledger) sync(number uint64) error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	l.mu.Lock()
	done, upTo, file := l.synced >= number, l.written, l.file
	l.mu.Unlock()
	if done {
		return nil
	}
	err := file.Sync()
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.synced >= number: // it was rotated away meanwhile, synced
		return nil
	case err != nil:
		return fmt.Errorf("sync the message ledger: %w", err)
	}
	l.synced = upTo
	return nil
}

// rotateLocked makes the current file the previous one.
func (l *Ledger) rotateLocked() error {
	path := filepath.Join(l.dir, ledgerCurrent)
	err := l.file.Sync()
	if err == nil {
		err = os.Rename(path, filepath.Join(l.dir, ledgerPrevious))
	}
	if err != nil {
		return fmt.Errorf("turn a page of the message ledger: %w", err)
	}
	next, err := openAppend(path, 0)
	if err != nil {
		return err
	}
	_ = l.file.Close() // synced above
	l.file, l.size, l.synced = next, 0, l.written
	l.previous, l.current = l.current, newLedgerPage()
	return nil
}

// ledgerQueue is what a Ledger asks of a spool.
type ledgerQueue interface {
	Stats() []spool.QueueStats
	List(queue string, limit int) ([]spool.Item, error)
}

// Adopt enters what waits in the queue. Call it once, before messages are taken or delivered.
func (l *Ledger) Adopt(q ledgerQueue) error {
	for _, st := range q.Stats() {
		items, err := q.List(st.Queue, st.Queued+st.Parked+st.Carried)
		if err != nil {
			return fmt.Errorf("look for messages in the queue: %w", err)
		}
		for _, it := range items {
			k, ok := parseKey(it.Meta.Attributes[AttrKey])
			if !ok {
				continue // another protocol's
			}
			l.mu.Lock()
			id := identity{key: k, digest: it.SHA256}
			if _, known := l.findLocked(id); !known {
				err = l.addLocked(id, nil)
			}
			l.mu.Unlock()
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func openAppend(path string, size int64) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the message ledger: %w", err)
	}
	if err = f.Truncate(size); err == nil { // what a crash has left half written
		err = f.Sync() // what it has left is counted on from now on
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("open the message ledger: %w", err)
	}
	return f, nil
}

// syncDir makes the names in a folder durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err //nolint:wrapcheck // callers say what for
	}
	return errors.Join(d.Sync(), d.Close())
}
