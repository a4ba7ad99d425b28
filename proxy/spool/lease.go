package spool

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"strings"
	"sync"
	"time"

	"github.com/towpath/towpath/proxy/spool/seal"
)

// ErrCalledOff is a cause for Lease.Retry that is no fault of the item: the attempt is not counted and there is no back-off.
var ErrCalledOff = errors.New("the delivery was called off")

var errLeaseEnded = errors.New("the lease has ended")

const (
	maxErrorText = 500
	maxNote      = 8 << 10
)

// lease implements Lease.
type lease struct {
	spool *Spool
	entry *entry
	item  Item

	mu    sync.Mutex
	ended bool
}

// Item describes what is leased, with the priority that it has now.
func (l *lease) Item() Item {
	it := l.item
	l.spool.mu.Lock()
	defer l.spool.mu.Unlock()
	it.Meta.Priority = int(l.entry.priority)
	return it
}

// Open reads the payload.
func (l *lease) Open() (io.ReadCloser, error) {
	s := l.spool
	if err := s.begin(); err != nil {
		return nil, err
	}
	defer s.ops.Done()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return nil, errLeaseEnded
	}
	f, err := s.openItem(l.entry)
	if err != nil {
		return nil, err
	}
	p, err := s.payload(f, l.entry, l.item)
	if err != nil {
		return nil, err
	}
	return p, nil
}

// payload reads the payload of an open file, which it closes on error.
func (s *Spool) payload(f storedFile, e *entry, item Item) (*payload, error) {
	p := &payload{
		file: f, section: io.NewSectionReader(f, int64(len(headMark)), item.Size), hash: sha256.New(), want: item.SHA256, left: item.Size,
	}
	if e.epoch != nil {
		cipher, err := s.cipher(e.epoch.id, e.id)
		if err != nil {
			_ = f.Close()
			return nil, err
		}
		p.section = seal.NewReader(f, int64(sealedHead), item.Size, cipher)
	}
	return p, nil
}

// payload reads and checks the bytes between head and tail of a file.
type payload struct {
	file    storedFile
	section io.Reader
	hash    hash.Hash
	want    [sha256.Size]byte
	left    int64
}

// Read returns ErrCorrupt instead of io.EOF when the bytes are not those that were written.
func (p *payload) Read(b []byte) (int, error) {
	n, err := p.section.Read(b)
	if errors.Is(err, seal.ErrOpen) {
		err = fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	_, _ = p.hash.Write(b[:n])
	p.left -= int64(n)
	if errors.Is(err, io.EOF) && (p.left != 0 || [sha256.Size]byte(p.hash.Sum(nil)) != p.want) {
		return n, fmt.Errorf("%w: the payload does not have the digest it had when it was written", ErrCorrupt)
	}
	return n, err //nolint:wrapcheck // io.EOF must stay what it is
}

// Close closes the file.
func (p *payload) Close() error { return p.file.Close() } //nolint:wrapcheck // nothing to add

// end starts one of the three ends of a lease.
func (l *lease) end() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return errLeaseEnded
	}
	if err := l.spool.begin(); err != nil {
		return err
	}
	l.ended = true
	return nil
}

// Done forgets the item, synced. When it returns an error the item is not delivered again by this Spool, but may be after a restart.
func (l *lease) Done(r Receipt) error {
	if err := l.end(); err != nil {
		return err
	}
	s, e := l.spool, l.entry
	defer s.ops.Done()
	s.tellDelivered(l.item, r)
	err := s.erase(e)
	s.mu.Lock()
	defer s.mu.Unlock()
	e.releaseLocked()
	if err != nil {
		keepEpochLocked(e.epoch)
	}
	if e.queue.ordered && e.queue.behindParked(e) {
		e.queue.overtook++
	}
	s.forgetLocked(e)
	e.queue.delivered++
	e.queue.deliveredBytes += e.size
	e.queue.lastError = ""
	e.queue.reached()
	return err
}

// erase removes the files of an item, synced.
func (s *Spool) erase(e *entry) error {
	if e.ext == extParked {
		defer func() { _ = s.vol.remove(itemName(e.id, extNote)) }() // otherwise the next Open does it
	}
	s.mu.Lock()
	moved := e.moved
	s.mu.Unlock()
	if moved {
		defer func() { _ = s.vol.remove(itemName(e.id, extPriority)) }() // so, too
	}
	var err error
	if e.shared {
		err = s.eraseShared(e)
	} else {
		err = s.vol.remove(itemName(e.id, e.ext))
		if errors.Is(err, fs.ErrNotExist) {
			err = nil // the purpose is fulfilled
		}
		if err == nil {
			err = s.sync.do()
		}
	}
	if err != nil {
		return fmt.Errorf("forget an item: %w", err)
	}
	return nil
}

// Retry makes the item available again.
func (l *lease) Retry(cause error) error {
	if err := l.end(); err != nil {
		return err
	}
	s, e := l.spool, l.entry
	defer s.ops.Done()
	s.mu.Lock()
	defer s.mu.Unlock()
	e.releaseLocked()
	e.notBefore, e.away = time.Time{}, false
	if !errors.Is(cause, ErrCalledOff) {
		e.failedLocked(cause)
		e.queue.retried++
		wait := s.opts.Backoff.wait(e.attempts)
		if _, e.away = errors.AsType[*UnreachableError](cause); e.away {
			e.queue.away = true
			wait = s.opts.Backoff.away(e.attempts)
		}
		e.notBefore = time.Now().Add(wait)
	}
	e.queue.add(e)
	return nil
}

func (e *entry) failedLocked(cause error) {
	e.attempts++
	e.lastError = ""
	if cause != nil {
		e.lastError = limitText(cause.Error())
	}
	e.queue.lastError = e.lastError
}

// Park keeps the item until an operator decides. When it returns an error the item is parked, but may be queued again after a restart.
func (l *lease) Park(cause error) error {
	if err := l.end(); err != nil {
		return err
	}
	s, e := l.spool, l.entry
	defer s.ops.Done()
	s.mu.Lock()
	e.failedLocked(cause)
	n := note{Attempts: e.attempts, LastError: e.lastError}
	s.mu.Unlock()

	s.tell(Change{Item: l.Item(), Step: StepParked})
	s.writeNote(e.id, n)
	renamed, err := s.move(e, extParked)
	s.mu.Lock()
	defer s.mu.Unlock()
	if renamed {
		e.ext = extParked
	}
	e.releaseLocked()
	e.state, e.notBefore = StateParked, time.Time{}
	e.queue.park(e)
	return err
}

// move renames the file of an item, or records its new state in the journal, synced. It tells whether the name has changed even if that was not synced.
func (s *Spool) move(e *entry, ext string) (renamed bool, err error) {
	if e.ext == ext {
		return true, nil
	}
	if e.shared {
		err = s.journal.do(&request{kind: recordState, id: e.id, ext: ext, entry: e})
		renamed = err == nil
	} else if err = s.vol.rename(itemName(e.id, e.ext), itemName(e.id, ext)); err == nil {
		renamed = true
		err = s.sync.do()
	}
	if err != nil {
		return renamed, fmt.Errorf("keep the new state of an item: %w", err)
	}
	return true, nil
}

// note is why an item was parked. It is a comfort: an item is parked by the name of its file alone.
type note struct {
	Attempts  int    `json:"attempts"`
	LastError string `json:"last_error"`
}

func (s *Spool) writeNote(id ID, n note) {
	text, err := json.Marshal(n)
	if err == nil {
		_ = s.vol.remove(itemName(id, extNote))
		err = s.writeFile(itemName(id, extNote), text)
	}
	if err != nil {
		s.log.Warn("the reason for parking an item could not be stored", "item", id, "error", err)
	}
}

func (s *Spool) readNote(id ID) (attempts int, lastError string) {
	f, err := s.vol.open(itemName(id, extNote))
	if err != nil {
		return 0, ""
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.NewSectionReader(f, 0, maxNote))
	var n note
	if err != nil || json.Unmarshal(text, &n) != nil {
		return 0, ""
	}
	return max(n.Attempts, 0), limitText(n.LastError)
}

func limitText(s string) string { return strings.ToValidUTF8(s[:min(len(s), maxErrorText)], "") }
