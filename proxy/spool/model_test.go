package spool_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/towpath/towpath/proxy/spool"
	"github.com/towpath/towpath/proxy/spool/seal"
)

const (
	ordered = "ordered"
	loose   = "loose"
)

// modelItem is what the naive model knows of an item.
type modelItem struct {
	id        spool.ID
	queue     string
	payload   []byte
	priority  int
	parked    bool
	carried   bool
	leased    spool.Lease
	attempts  int
	notBefore time.Time
	created   time.Time
}

// machine compares a Spool with a list.
type machine struct {
	dir   string
	key   seal.PrivateKey // zero for none
	spool *spool.Spool
	items []*modelItem // in the order of IDs
	last  spool.ID
	// delivered is in bytes, by queue, since the last start.
	delivered map[string]int64
}

func (m *machine) open(t *rapid.T) {
	var err error
	// All, none or some have files of their own, and that may change from one start to the next.
	m.spool, err = spool.Open(m.dir, spool.SmallSegments(spool.Options{
		MinFreeBytes: -1, Ordered: func(q string) bool { return q == ordered },
		Backoff:   spool.Backoff{Min: time.Second, Max: 20 * time.Second},
		MaxShared: rapid.SampledFrom([]int{-1, 0, 350}).Draw(t, "max shared"),
	}, 2000))
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	m.delivered = map[string]int64{}
	if !m.key.IsZero() {
		m.spool.SealTo(m.key.Public())
		m.spool.Unlock(m.key)
	}
}

func (m *machine) pick(t *rapid.T, what string, fits func(*modelItem) bool) *modelItem {
	var list []*modelItem
	for _, it := range m.items {
		if fits(it) {
			list = append(list, it)
		}
	}
	if len(list) == 0 {
		t.Skip("no " + what)
	}
	return rapid.SampledFrom(list).Draw(t, what)
}

func (m *machine) remove(it *modelItem) {
	m.items = slices.DeleteFunc(m.items, func(o *modelItem) bool { return o == it })
}

func (m *machine) Put(t *rapid.T) {
	queue := rapid.SampledFrom([]string{ordered, loose}).Draw(t, "queue")
	payload := rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "payload")
	priority := max(rapid.IntRange(-2, 3).Draw(t, "priority"), 0)
	w, err := m.spool.Create(spool.Meta{Queue: queue, Priority: priority, Attributes: map[string]string{"a": "1"}})
	if err != nil {
		t.Fatalf("Create: %v", err)
	}
	for piece := range slices.Chunk(payload, 70) {
		if _, err := w.Write(piece); err != nil {
			t.Fatalf("Write: %v", err)
		}
	}
	if rapid.IntRange(0, 5).Draw(t, "abort") == 0 {
		w.Abort()
		return
	}
	it, err := w.Commit()
	if err != nil {
		t.Fatalf("Commit: %v", err)
	}
	w.Abort() // must do nothing
	if it.ID <= m.last {
		t.Fatalf("ID %s after %s", it.ID, m.last)
	}
	m.last = it.ID
	m.items = append(m.items, &modelItem{id: it.ID, queue: queue, priority: priority, payload: payload, created: it.Created})
}

// expected returns the item whose turn it is in a queue.
func (m *machine) expected(queue string) *modelItem {
	if queue == ordered && slices.ContainsFunc(m.items, func(it *modelItem) bool { return it.queue == ordered && it.leased != nil }) {
		return nil // one lease at a time, whatever was unparked in the meantime
	}
	var best *modelItem
	for _, it := range m.items {
		switch {
		case it.queue != queue || it.parked || it.carried || it.leased != nil:
		case queue != ordered && it.notBefore.After(time.Now()):
		case best == nil || it.priority > best.priority:
			best = it
		}
	}
	if best != nil && best.notBefore.After(time.Now()) {
		return nil // the head blocks all others
	}
	return best
}

func (m *machine) Next(t *rapid.T) {
	queue := rapid.SampledFrom([]string{ordered, loose}).Draw(t, "queue")
	want := m.expected(queue)
	ctx, cancel := context.WithTimeout(context.Background(), time.Nanosecond)
	defer cancel()
	l, err := m.spool.Next(ctx, queue)
	if want == nil {
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("Next(%s): %v, %v; want to wait", queue, l, err)
		}
		return
	}
	if err != nil {
		t.Fatalf("Next(%s): %v; want %s", queue, err, want.id)
	}
	if it := l.Item(); it.ID != want.id || it.Attempts != want.attempts || it.Meta.Attributes["a"] != "1" || it.Meta.Priority != want.priority {
		t.Fatalf("Next(%s): %+v; want %+v", queue, it, want)
	}
	r, err := l.Open()
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	got, err := io.ReadAll(r)
	_ = r.Close()
	if err != nil || !bytes.Equal(got, want.payload) {
		t.Fatalf("payload %x, %v; want %x", got, err, want.payload)
	}
	want.leased = l
}

func leased(it *modelItem) bool { return it.leased != nil }

func (m *machine) Done(t *rapid.T) {
	it := m.pick(t, "leased item", leased)
	if err := it.leased.Done(spool.Receipt{}); err != nil {
		t.Fatalf("Done: %v", err)
	}
	if err := it.leased.Retry(nil); err == nil {
		t.Fatal("a lease can be ended twice")
	}
	m.delivered[it.queue] += int64(len(it.payload))
	m.remove(it)
}

func (m *machine) Retry(t *rapid.T) {
	it := m.pick(t, "leased item", leased)
	calledOff := rapid.Bool().Draw(t, "called off")
	cause := errors.New("busy")
	if calledOff {
		cause = fmt.Errorf("shutdown: %w", spool.ErrCalledOff)
	} else {
		it.attempts++
	}
	if err := it.leased.Retry(cause); err != nil {
		t.Fatalf("Retry: %v", err)
	}
	it.leased, it.notBefore = nil, time.Time{}
	for _, listed := range m.list(t, it.queue) {
		if listed.ID != it.id {
			continue
		}
		it.notBefore = listed.NotBefore
		ceiling := min(time.Second<<(max(it.attempts, 1)-1), 20*time.Second)
		if calledOff != it.notBefore.IsZero() || time.Until(it.notBefore) > ceiling {
			t.Fatalf("after attempt %d (called off: %v) the next is at %v, now is %v", it.attempts, calledOff, it.notBefore, time.Now())
		}
	}
}

func (m *machine) Park(t *rapid.T) {
	it := m.pick(t, "leased item", leased)
	if err := it.leased.Park(errors.New("refused")); err != nil {
		t.Fatalf("Park: %v", err)
	}
	it.leased, it.parked, it.notBefore = nil, true, time.Time{}
	it.attempts++
}

func (m *machine) Carried(t *rapid.T) {
	it := m.pick(t, "leased item", leased)
	if err := it.leased.Carried(spool.Receipt{}); err != nil {
		t.Fatalf("Carried: %v", err)
	}
	if err := it.leased.Done(spool.Receipt{}); err == nil {
		t.Fatal("a lease can be ended twice")
	}
	it.leased, it.carried, it.notBefore = nil, true, time.Time{}
}

func (m *machine) Resolve(t *rapid.T) {
	it := m.pick(t, "item", func(*modelItem) bool { return true })
	outcomes := []spool.Outcome{spool.Done(spool.Receipt{}), spool.Park(errors.New("refused")), spool.Requeue()}
	kind := rapid.IntRange(0, len(outcomes)-1).Draw(t, "outcome")
	err := m.spool.Resolve(it.id, outcomes[kind])
	switch {
	case it.leased != nil:
		if !errors.Is(err, spool.ErrLeased) {
			t.Fatalf("Resolve of a leased item: %v", err)
		}
		return
	case !it.carried:
		if !errors.Is(err, spool.ErrUnknown) {
			t.Fatalf("Resolve of an item that is not carried: %v", err)
		}
		return
	case err != nil:
		t.Fatalf("Resolve: %v", err)
	}
	it.carried = false
	switch kind {
	case 0:
		m.delivered[it.queue] += int64(len(it.payload))
		m.remove(it)
	case 1:
		it.parked = true
		it.attempts++
	case 2:
		it.attempts = 0
	}
}

func (m *machine) RetryCarried(t *rapid.T) {
	it := m.pick(t, "carried item", func(it *modelItem) bool { return it.carried })
	if err := m.spool.RetryNow(it.id); err != nil {
		t.Fatalf("RetryNow: %v", err)
	}
	it.carried, it.attempts = false, 0
}

func (m *machine) Unpark(t *rapid.T) {
	it := m.pick(t, "parked item", func(it *modelItem) bool { return it.parked })
	if err := m.spool.Unpark(it.id); err != nil {
		t.Fatalf("Unpark: %v", err)
	}
	it.parked, it.attempts = false, 0
}

func (m *machine) RetryParked(t *rapid.T) {
	queue := rapid.SampledFrom([]string{ordered, loose}).Draw(t, "queue")
	want := 0
	for _, it := range m.items {
		if it.queue == queue && it.leased == nil && (it.parked || !it.notBefore.IsZero()) {
			want++
			if it.parked {
				it.attempts = 0
			}
			it.parked, it.notBefore = false, time.Time{}
		}
	}
	if n, err := m.spool.RetryParked(queue); n != want || err != nil {
		t.Fatalf("RetryParked: %d, %v; want %d", n, err, want)
	}
}

func (m *machine) Drop(t *rapid.T) {
	it := m.pick(t, "item", func(*modelItem) bool { return true })
	err := m.spool.Drop(it.id)
	if it.leased != nil {
		if !errors.Is(err, spool.ErrLeased) {
			t.Fatalf("Drop of a leased item: %v", err)
		}
		return
	}
	if err != nil {
		t.Fatalf("Drop: %v", err)
	}
	if err := m.spool.Drop(it.id); !errors.Is(err, spool.ErrUnknown) {
		t.Fatalf("Drop of nothing: %v", err)
	}
	m.remove(it)
}

// SetPriority stays below Urgent, where nothing is passed for ever: see TestRoutineHasItsTurn.
func (m *machine) SetPriority(t *rapid.T) {
	it := m.pick(t, "item", func(*modelItem) bool { return true })
	p := rapid.IntRange(0, spool.Urgent-1).Draw(t, "priority")
	err := m.spool.SetPriority(it.id, p)
	if it.carried {
		if !errors.Is(err, spool.ErrUnknown) {
			t.Fatalf("SetPriority of a carried item: %v", err)
		}
		return
	}
	if err != nil {
		t.Fatalf("SetPriority: %v", err)
	}
	it.priority = p
}

func (m *machine) Sleep(t *rapid.T) {
	time.Sleep(time.Duration(rapid.IntRange(0, 25).Draw(t, "nap")) * time.Second)
	if rapid.IntRange(0, 5).Draw(t, "long") == 0 {
		time.Sleep(2 * time.Hour) // the next item has another data key
	}
}

func (m *machine) Reopen(t *rapid.T) {
	before, err := m.spool.Usage()
	if err != nil {
		t.Fatalf("Usage: %v", err)
	}
	if err := m.spool.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	for _, it := range m.items {
		if it.leased != nil {
			if err := it.leased.Done(spool.Receipt{}); !errors.Is(err, spool.ErrClosed) {
				t.Fatalf("Done after Close: %v", err)
			}
			it.leased = nil
		}
		if !it.parked {
			it.attempts, it.notBefore = 0, time.Time{} // not kept over a restart
		}
	}
	m.open(t)
	if after, err := m.spool.Usage(); err != nil || after.Bytes != before.Bytes || after.JournalBytes > before.JournalBytes {
		t.Fatalf("usage %+v, %v; before the restart %+v", after, err, before)
	}
}

func (m *machine) list(t *rapid.T, queue string) []spool.Item {
	list, err := m.spool.List(queue, 1000)
	if err != nil {
		t.Fatalf("List: %v", err)
	}
	return list
}

func (m *machine) carried(t *rapid.T, queue string) (ids []spool.ID) {
	list, err := m.spool.Carried(queue)
	if err != nil {
		t.Fatalf("Carried: %v", err)
	}
	for _, it := range list {
		if it.State != spool.StateCarried || it.Meta.Attributes["a"] != "1" {
			t.Fatalf("carried item %+v", it)
		}
		ids = append(ids, it.ID)
	}
	return ids
}

// Check is called after each step.
func (m *machine) Check(t *rapid.T) {
	var used int64
	for _, st := range m.spool.Stats() {
		used += st.Used
		var want spool.QueueStats
		var listed, carried []spool.ID
		for _, it := range m.items {
			if it.queue != st.Queue {
				continue
			}
			listed = append(listed, it.id)
			want.Bytes += int64(len(it.payload))
			switch {
			case it.parked:
				want.Parked++
			case it.carried:
				want.Carried++
				want.CarriedBytes += int64(len(it.payload))
				carried = append(carried, it.id)
			default:
				want.Queued++
				want.QueuedBytes += int64(len(it.payload))
			}
			if want.OldestCreated.IsZero() || it.created.Before(want.OldestCreated) {
				want.OldestCreated = it.created
			}
		}
		if st.Queued != want.Queued || st.Parked != want.Parked || st.Carried != want.Carried || st.CarriedBytes != want.CarriedBytes || st.QueuedBytes != want.QueuedBytes ||
			st.DeliveredBytes != m.delivered[st.Queue] || st.Bytes != want.Bytes || !st.OldestCreated.Equal(want.OldestCreated) {
			t.Fatalf("stats %+v, want %+v", st, want)
		}
		var got []spool.ID
		for _, it := range m.list(t, st.Queue) {
			got = append(got, it.ID)
			if it.State == spool.StateParked && it.LastError != "refused" {
				t.Fatalf("parked item without its reason: %+v", it)
			}
		}
		if !slices.Equal(got, listed) {
			t.Fatalf("%s lists %v, want %v", st.Queue, got, listed)
		}
		if got := m.carried(t, st.Queue); !slices.Equal(got, carried) {
			t.Fatalf("%s has carried %v, want %v", st.Queue, got, carried)
		}
	}
	own, journal := m.onDisk(t, "items"), m.onDisk(t, "journal")
	u, err := m.spool.Usage()
	if shared := u.Bytes - own; shared < 0 || shared > u.JournalBytes || u.JournalBytes > journal || len(m.items) == 0 && u.Bytes != 0 ||
		u.JournalBytes > 2*shared+4*2000 {
		t.Fatalf("usage %+v; files of items take %d bytes, the journal %d", u, own, journal)
	}
	if err != nil || u.Bytes != used || u.Quarantined != 0 || u.Locked != 0 || u.Sealed == m.key.IsZero() {
		t.Fatalf("usage %+v, %v; the queues take %d bytes", u, err, used)
	}
	if plain := len(m.items); u.Plain != plain && m.key.IsZero() || u.Plain != 0 && !m.key.IsZero() {
		t.Fatalf("usage %+v; there are %d items", u, plain)
	}
}

// onDisk is what the files of a folder take.
func (m *machine) onDisk(t *rapid.T, folder string) (sum int64) {
	files, err := os.ReadDir(filepath.Join(m.dir, folder))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(f.Name(), ".note") && !strings.HasSuffix(f.Name(), ".priority") {
			sum += info.Size()
		}
	}
	return sum
}

func TestSpoolAgainstModel(t *testing.T) {
	base := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		n := 0
		key, err := seal.NewPrivateKey()
		if err != nil {
			t.Fatal(err)
		}
		// Deadline must not be called in a bubble, and a testing.TB has none.
		rapid.Check(struct{ testing.TB }{t}, func(t *rapid.T) {
			n++
			m := &machine{dir: filepath.Join(base, fmt.Sprint(n))}
			if rapid.Bool().Draw(t, "sealed") {
				m.key = key
			}
			m.open(t)
			defer func() { _ = m.spool.Close() }()
			actions := rapid.StateMachineActions(m)
			for i := range 4 { // what fills the state is drawn more often than what empties it
				actions[fmt.Sprint("Put", i)], actions[fmt.Sprint("Next", i)] = m.Put, m.Next
			}
			t.Repeat(actions)
			t.Repeat(actions)
		})
	})
}
