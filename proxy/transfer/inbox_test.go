package transfer_test

import (
	"context"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"sync"

	"github.com/towpath/towpath/proxy/transfer"
)

// inbox is an Inbox in memory that outlives Receivers.
type inbox struct {
	mu     sync.Mutex
	got    map[string][][]byte // all that was ever stored, by item
	items  map[string]transfer.Item
	order  []string
	full   int // so many calls of Store fail
	refuse func(transfer.Item) error
	held   map[string]transfer.Held // not delivered
	parked map[string]bool
	again  int
	stored chan transfer.Item
	after  func(transfer.Item) // is called before Store returns
}

func newInbox() *inbox {
	return &inbox{
		got: map[string][][]byte{}, items: map[string]transfer.Item{}, held: map[string]transfer.Held{}, parked: map[string]bool{},
		stored: make(chan transfer.Item, 1<<16),
	}
}

func (i *inbox) Accept(it transfer.Item) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.refuse != nil {
		return i.refuse(it)
	}
	return nil
}

func (i *inbox) Store(_ context.Context, it transfer.Item, r io.Reader) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if i.after != nil {
		defer i.after(it)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.full > 0 {
		i.full--
		return fmt.Errorf("store: %w", transfer.ErrFull)
	}
	i.got[it.ID] = append(i.got[it.ID], b)
	i.items[it.ID] = it
	i.order = append(i.order, it.ID)
	i.held[it.ID] = transfer.Held{Origin: it.Origin, Size: it.Size, Service: it.Service}
	i.stored <- it
	return nil
}

func (i *inbox) Again(o transfer.Origin) (bool, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if _, ok := i.held[o.ID]; !ok {
		return false, nil
	}
	i.again++
	delete(i.parked, o.ID)
	return true, nil
}

func (i *inbox) Delivered(transfer.Origin) {}

func (i *inbox) Holds(o transfer.Origin) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	_, ok := i.held[o.ID]
	return ok
}

func (i *inbox) Held() iter.Seq2[transfer.Held, error] {
	i.mu.Lock()
	list := slices.Collect(maps.Values(i.held))
	i.mu.Unlock()
	return func(yield func(transfer.Held, error) bool) {
		for _, h := range list {
			if !yield(h, nil) {
				return
			}
		}
	}
}

func (i *inbox) has(id string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.got[id]) > 0
}

func (i *inbox) count() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.order)
}

// deliver ends everything that is held, as the application says.
func (i *inbox) deliver(r *transfer.Receiver, verdict func(transfer.Held) transfer.Result) error {
	i.mu.Lock()
	var list []transfer.Held
	for id, h := range i.held {
		if !i.parked[id] {
			list = append(list, h)
		}
	}
	i.mu.Unlock()
	for _, h := range list {
		res := verdict(h)
		if err := r.Resolve(h, res); err != nil {
			return err
		}
		i.mu.Lock()
		if res.Accepted {
			delete(i.held, h.ID)
		} else {
			i.parked[h.ID] = true
		}
		i.mu.Unlock()
	}
	return nil
}

func accepted(transfer.Held) transfer.Result {
	return transfer.Result{Accepted: true, Code: "0000", Peer: "PACS"}
}
