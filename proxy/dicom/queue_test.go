package dicom_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"

	"github.com/towpath/towpath/proxy/spool"
)

// memoryQueue is a spool.Queue that keeps everything and can be told to fail.
type memoryQueue struct {
	mu    sync.Mutex
	items []stored
	open  int // writers not ended
	faults
}

// faults are the errors that a memoryQueue gives.
type faults struct{ createErr, writeErr, commitErr error }

type stored struct {
	spool.Item
	payload []byte
}

func (q *memoryQueue) Create(m spool.Meta) (spool.Writer, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.createErr != nil {
		return nil, q.createErr
	}
	q.open++
	return &memoryWriter{q: q, meta: m}, nil
}

func (q *memoryQueue) Next(context.Context, string) (spool.Lease, error) {
	return nil, errors.New("not in this test")
}

func (q *memoryQueue) Stats() []spool.QueueStats { return nil }

// state returns what was committed, and how many writers nobody has ended.
func (q *memoryQueue) state() ([]stored, int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.items, q.open
}

type memoryWriter struct {
	q     *memoryQueue
	meta  spool.Meta
	buf   bytes.Buffer
	ended bool
}

func (w *memoryWriter) Write(b []byte) (int, error) {
	w.q.mu.Lock()
	defer w.q.mu.Unlock()
	if w.q.writeErr != nil {
		return 0, w.q.writeErr
	}
	return w.buf.Write(b)
}

func (w *memoryWriter) Commit() (spool.Item, error) {
	w.q.mu.Lock()
	defer w.q.mu.Unlock()
	w.endLocked()
	if w.q.commitErr != nil {
		return spool.Item{}, w.q.commitErr
	}
	item := spool.Item{
		ID: spool.ID(fmt.Sprint(len(w.q.items))), Meta: w.meta, Size: int64(w.buf.Len()), SHA256: sha256.Sum256(w.buf.Bytes()),
		State: spool.StateQueued,
	}
	w.q.items = append(w.q.items, stored{Item: item, payload: w.buf.Bytes()})
	return item, nil
}

func (w *memoryWriter) Abort() {
	w.q.mu.Lock()
	defer w.q.mu.Unlock()
	w.endLocked()
}

func (w *memoryWriter) endLocked() {
	if !w.ended {
		w.ended = true
		w.q.open--
	}
}
