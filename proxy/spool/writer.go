package spool

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"time"

	"github.com/towpath/towpath/proxy/spool/seal"
)

const (
	writeBuffer = 64 << 10
	// freeEvery is after how many bytes a Writer looks at the free space again.
	freeEvery = 1 << 20
)

var errWriterEnded = errors.New("the writer has ended")

// Create starts an item.
func (s *Spool) Create(m Meta) (Writer, error) {
	if err := m.validate(); err != nil {
		return nil, fmt.Errorf("create an item: %w", err)
	}
	if err := s.begin(); err != nil {
		return nil, err
	}
	defer s.ops.Done()
	if err := s.checkFree(false); err != nil {
		return nil, err
	}
	s.mu.Lock()
	q := s.queueLocked(m.Queue)
	err := s.admitLocked(q)
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	w := &writer{spool: s, queue: q, meta: Meta{Queue: m.Queue, Attributes: maps.Clone(m.Attributes), Priority: m.Priority}, hash: sha256.New()}
	if err := w.begin(); err != nil {
		w.release()
		return nil, fmt.Errorf("create an item: %w", full(err))
	}
	return w, nil
}

// begin gives the item its number and writes its head.
func (w *writer) begin() (err error) {
	s := w.spool
	if w.epoch, err = s.borrowEpoch(); err != nil {
		return err
	}
	s.mu.Lock()
	n, err := s.nextLocked()
	s.mu.Unlock()
	if err != nil {
		return err
	}
	w.id = newID(n)
	head := []byte(headMark)
	if w.epoch != nil {
		head = append([]byte(sealedMark), w.epoch.id[:]...)
		if w.cipher, err = w.epoch.key.Item(string(w.id)); err != nil {
			return err //nolint:wrapcheck // says all
		}
	}
	if err := w.reserve(w.stored(0) + int64(len(head))); err != nil {
		return err
	}
	w.store = &store{writer: w}
	if s.opts.MaxShared > 0 {
		w.store.image = s.takeImage()
	} else if err := w.store.spill(); err != nil {
		return err
	}
	w.to = w.store
	if w.epoch != nil {
		w.to = s.takeSealer(w.store, w.cipher)
	}
	_, w.err = w.store.Write(head)
	return nil
}

// stored is what a payload of that size takes in the file.
func (w *writer) stored(size int64) int64 {
	if w.epoch == nil {
		return size
	}
	return seal.SealedSize(size)
}

// writer is an item in the making. Like any io.Writer it is used by one goroutine at a time.
type writer struct {
	spool    *Spool
	queue    *queue
	id       ID
	meta     Meta
	store    *store
	epoch    *epoch // nil for what is stored plain
	cipher   seal.Item
	to       io.Writer // store, or a *seal.Writer before it
	hash     hash.Hash
	size     int64 // of the payload
	reserved int64 // bytes counted in Spool.used
	checked  int64 // size at the last look at the free space
	err      error // the first error, for good
	ended    bool
}

// reserve counts n more bytes, or refuses.
func (w *writer) reserve(n int64) error {
	s := w.spool
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.takeLocked(w.queue, n); err != nil {
		return err
	}
	w.reserved += n
	return nil
}

// release ends a writer that made no item.
func (w *writer) release() {
	w.spool.mu.Lock()
	defer w.spool.mu.Unlock()
	w.spool.countLocked(w.queue, -w.reserved)
	w.queue.writers--
	w.reserved = 0
	w.spool.returnEpochLocked(w.epoch)
}

// Write appends to the payload. After an error every call returns that error.
func (w *writer) Write(p []byte) (int, error) {
	if w.ended {
		return 0, errWriterEnded
	}
	if w.err != nil {
		return 0, w.err
	}
	n, err := w.write(p)
	if err != nil {
		w.err = fmt.Errorf("write an item: %w", full(err))
	}
	return n, w.err
}

func (w *writer) write(p []byte) (int, error) {
	if err := w.reserve(w.stored(w.size+int64(len(p))) - w.stored(w.size)); err != nil {
		return 0, err
	}
	if w.size+int64(len(p))-w.checked >= freeEvery {
		w.checked = w.size + int64(len(p))
		if err := w.spool.checkFree(true); err != nil {
			return 0, err
		}
	}
	n, err := w.to.Write(p)
	_, _ = w.hash.Write(p[:n])
	w.size += int64(n)
	return n, err //nolint:wrapcheck // Write does
}

// Commit makes the item durable and deliverable.
func (w *writer) Commit() (Item, error) {
	if w.ended {
		return Item{}, errWriterEnded
	}
	if err := w.spool.begin(); err != nil {
		return Item{}, err
	}
	defer w.spool.ops.Done()
	w.ended = true
	it, err := w.commit()
	if err != nil {
		return Item{}, fmt.Errorf("commit an item: %w", full(err))
	}
	w.spool.tell(Change{Item: it, Step: StepTaken})
	return it, nil
}

func (w *writer) commit() (Item, error) {
	s := w.spool
	d := description{ID: w.id, Meta: w.meta, Size: w.size, SHA256: digest(w.hash.Sum(nil)), Created: time.Now().UTC().Round(0)}
	if err := w.finish(d); err != nil {
		w.discard(extTemporary)
		return Item{}, err
	}
	e := &entry{
		id: w.id, queue: w.queue, size: w.size, bytes: w.reserved, created: d.Created,
		ext: extQueued, state: StateQueued, epoch: w.epoch, priority: int8(d.Priority), shared: w.store.file == nil,
	}
	if e.shared {
		return w.commitShared(e, d)
	}
	if err := s.vol.rename(itemName(w.id, extTemporary), itemName(w.id, extQueued)); err != nil {
		w.discard(extTemporary)
		return Item{}, err
	}
	if err := s.sync.do(); err != nil {
		s.mu.Lock()
		keepEpochLocked(w.epoch)
		s.mu.Unlock()
		w.discard(extQueued)
		return Item{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	w.queue.writers--
	s.insertLocked(e)
	return e.item(d), nil
}

// commitShared has the journal take the item.
func (w *writer) commitShared(e *entry, d description) (Item, error) {
	s := w.spool
	err := s.journal.do(&request{kind: recordItem, id: e.id, ext: extQueued, image: w.store.image, entry: e})
	_ = w.store.end()
	if err != nil {
		s.mu.Lock()
		keepEpochLocked(w.epoch)
		s.mu.Unlock()
		w.release()
		return Item{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return e.item(d), nil
}

// finish writes the description. It syncs and closes the file, in any case, if there is one.
func (w *writer) finish(d description) error {
	err := w.err
	if err == nil {
		err = w.writeTail(d)
	}
	if w.store.file == nil && err == nil {
		w.returnSealer()
		return w.reserve(recordHead)
	}
	if err == nil {
		err = w.store.file.Sync()
	}
	w.returnSealer()
	if closeErr := w.store.end(); err == nil {
		err = closeErr
	}
	return err
}

func (w *writer) writeTail(d description) error {
	tail, err := w.tail(d)
	if err != nil {
		return err
	}
	if err := w.reserve(int64(len(tail))); err != nil {
		return err
	}
	if _, err := w.store.Write(tail); err != nil {
		return err //nolint:wrapcheck // Commit does
	}
	return w.store.flush()
}

// tail ends the payload and returns what stands behind it.
func (w *writer) tail(d description) ([]byte, error) {
	sealer, sealed := w.to.(*seal.Writer)
	if !sealed {
		return d.tail()
	}
	if err := sealer.Finish(); err != nil {
		return nil, err //nolint:wrapcheck // Commit does
	}
	d.epoch = w.epoch.id
	return d.sealedTail(w.cipher)
}

// discard removes the file. When even that fails, the next Open does it, or finds an item that its producer believes lost: sent twice,
// then, but never lost.
func (w *writer) discard(ext string) {
	if w.store.file == nil {
		_ = w.store.end()
		w.release()
		return
	}
	if err := w.spool.vol.remove(itemName(w.id, ext)); err != nil {
		w.spool.log.Warn("an unfinished item could not be removed", "item", w.id, "error", err)
	}
	w.release()
}

// Abort forgets what was written.
func (w *writer) Abort() {
	if w.ended {
		return
	}
	w.ended = true
	w.returnSealer()
	_ = w.store.end()
	if w.spool.begin() != nil {
		return // the next Open removes the file
	}
	defer w.spool.ops.Done()
	w.discard(extTemporary)
}

// takeSealer lends what encrypts, with its buffer.
func (s *Spool) takeSealer(to io.Writer, item seal.Item) *seal.Writer {
	w, ok := s.sealers.Get().(*seal.Writer)
	if !ok {
		w = &seal.Writer{}
	}
	w.Reset(to, item)
	return w
}

func (w *writer) returnSealer() {
	if sealer, sealed := w.to.(*seal.Writer); sealed {
		sealer.Reset(nil, seal.Item{})
		w.spool.sealers.Put(sealer)
	}
	w.to = nil
}
