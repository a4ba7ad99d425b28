package transfer_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/towpath/towpath/proxy/spool"
	"github.com/towpath/towpath/proxy/transfer"
)

// archive is a Sink that remembers, and refuses what says so.
type archive struct {
	mu  sync.Mutex
	got map[string]int
	yes bool
}

func (a *archive) Deliver(_ context.Context, it spool.Item, payload io.Reader) (spool.Receipt, error) {
	b, err := io.ReadAll(payload)
	if err != nil {
		return spool.Receipt{}, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if bytes.HasPrefix(b, []byte("bad")) && !a.yes {
		return spool.Receipt{Code: "C000", Peer: "PACS"}, spool.Permanent(errors.New("it cannot understand the object"))
	}
	a.got[string(b[:min(len(b), 20)])+it.Meta.Attributes["object"]]++
	return spool.Receipt{Code: "0000", Peer: "PACS"}, nil
}

func (a *archive) Idle() {}

func (a *archive) total() (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range a.got {
		n += c
	}
	return n
}

// site is a gateway's queue on disk.
func site(t *testing.T) *spool.Spool {
	t.Helper()
	s, err := spool.Open(t.TempDir(), spool.Options{MinFreeBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func put(t *testing.T, s *spool.Spool, payload []byte, priority int) spool.Item {
	t.Helper()
	w, err := s.Create(spool.Meta{Queue: "to.center", Priority: priority, Attributes: map[string]string{"object": "o", transfer.AttributeNode: "forged"}})
	if err == nil {
		_, err = w.Write(payload)
	}
	if err != nil {
		t.Fatal(err)
	}
	it, err := w.Commit()
	if err != nil {
		t.Fatal(err)
	}
	return it
}

func stats(s *spool.Spool, queue string) spool.QueueStats {
	for _, q := range s.Stats() {
		if q.Queue == queue {
			return q
		}
	}
	return spool.QueueStats{}
}

// From queue to queue to archive: what the archive takes is gone at both ends, what it refuses is parked at both, and is delivered when the
// clinic's operator tries again.
func TestFromSpoolToSpool(t *testing.T) {
	from, to := site(t), site(t)
	name := transfer.QueueName("PACS main", "Clinic_1")
	if name != "in.pacs-main.clinic-1" {
		t.Errorf("queue %q", name)
	}
	w := newWorld(t)
	a := &archive{got: map[string]int{}}
	w.tuneIn = func(c *transfer.ReceiverConfig) {
		c.Inbox = transfer.NewSpoolInbox(to, func(it transfer.Item) (string, error) {
			if it.Service != "pacs" {
				return "", errors.New("there is no such service here")
			}
			return name, nil
		}, func() []string { return []string{name} })
	}
	service := "pacs"
	w.tuneOut = func(c *transfer.SenderConfig) {
		c.Outbox = transfer.NewSpoolOutbox(from, transfer.SpoolRoute{Queue: "other", Service: "other"}, transfer.SpoolRoute{Queue: "to.center", Service: service})
	}
	for i := range 20 {
		put(t, from, append([]byte{byte('a' + i)}, noise(byte(i), 30_000)...), i%10)
	}
	bad := put(t, from, []byte("bad object"), 0)
	w.startReceiver()
	w.startSender()
	eventually(t, "all at the center", func() bool { return stats(to, name).Queued == 21 })
	eventually(t, "all carried", func() bool { return stats(from, "to.center").Carried == 21 })
	if it, err := to.List(name, 1); err != nil || it[0].Meta.Attributes[transfer.AttributeNode] != senderNode || it[0].Meta.Attributes["object"] != "o" {
		t.Errorf("%+v, %v", it, err)
	}
	// Both ends restart before anything is delivered.
	w.stopOut()
	w.stopIn()
	w.startReceiver()
	w.startSender()
	stop := deliver(t, to, name, w.receiver.Sink(a))
	eventually(t, "the end of all", func() bool {
		s := stats(from, "to.center")
		return s.Carried == 0 && s.Queued == 0 && s.Parked == 1
	})
	eventually(t, "parked at the center", func() bool { return stats(to, name).Parked == 1 })
	if a.total() != 20 || stats(from, "to.center").Delivered != 20 {
		t.Errorf("%d delivered, %+v", a.total(), stats(to, name))
	}
	it, err := from.Get(bad.ID)
	if err != nil || !strings.Contains(it.LastError, "cannot understand") || !strings.Contains(it.LastError, receiverNode) {
		t.Errorf("parked with %q: %v", it.LastError, err)
	}
	origin := transfer.Origin{Node: senderNode, ID: string(bad.ID), SHA256: bad.SHA256}
	eventually(t, "that both know it", func() bool { _, open := w.receiver.Outcome(origin); return !open })
	a.mu.Lock()
	a.yes = true
	a.mu.Unlock()
	if err := from.Unpark(bad.ID); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the refused one delivered", func() bool {
		return a.total() == 21 && stats(from, "to.center").Bytes == 0 && stats(to, name).Bytes == 0
	})
	stop()

	// A service that the center does not have is for the operator at once.
	w.stopOut()
	service = "nowhere"
	w.startSender()
	lost := put(t, from, []byte("x"), 0)
	eventually(t, "parked", func() bool { it, err := from.Get(lost.ID); return err == nil && it.State == spool.StateParked })
	if it, _ := from.Get(lost.ID); !strings.Contains(it.LastError, "no such service") {
		t.Errorf("parked with %q", it.LastError)
	}
	w.stopOut()
	w.stopIn()
}

func deliver(t *testing.T, s *spool.Spool, name string, sink spool.Sink) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- spool.Deliver(ctx, spool.DeliverConfig{Queue: s, Name: name, Sink: sink}) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

// An end that comes for an item that is not carried, because the machine stopped before that was synced, counts all the same.
func TestFinalOfWhatIsNotCarried(t *testing.T) {
	s := site(t)
	box := transfer.NewSpoolOutbox(s, transfer.SpoolRoute{Queue: "to.center", Service: "pacs"})
	final := func(id spool.ID, payload string, k transfer.Kind) error {
		return box.Final(string(id), transfer.Receipt{Kind: k, Origin: transfer.Origin{ID: string(id), SHA256: sha256.Sum256([]byte(payload))}, By: "center", Reason: "no"})
	}
	told := map[spool.ID]bool{}
	s.OnDelivered(func(it spool.Item, _ spool.Receipt) { told[it.ID] = true })
	a, b, c := put(t, s, []byte("a"), 0), put(t, s, []byte("b"), 0), put(t, s, []byte("c"), 0)
	if err := final(a.ID, "another", transfer.Accepted); !errors.Is(err, transfer.ErrUnknown) {
		t.Errorf("another payload: %v", err)
	}
	if err := final(a.ID, "a", transfer.Accepted); err != nil {
		t.Error(err)
	}
	if err := final(a.ID, "a", transfer.Accepted); !errors.Is(err, transfer.ErrUnknown) {
		t.Errorf("twice: %v", err)
	}
	if err := final(b.ID, "b", transfer.Parked); err != nil {
		t.Error(err)
	}
	if err := final(b.ID, "b", transfer.Parked); !errors.Is(err, transfer.ErrUnknown) {
		t.Errorf("twice: %v", err)
	}
	if it, err := s.Get(b.ID); err != nil || it.State != spool.StateParked {
		t.Errorf("%+v %v", it, err)
	}
	if err := final(b.ID, "b", transfer.Accepted); err != nil {
		t.Errorf("delivered after all: %v", err)
	}
	if !told[a.ID] || !told[b.ID] || len(told) != 2 {
		t.Errorf("receipts of %v were handed on", told)
	}
	p, err := box.Next(t.Context())
	if err != nil || p.Item().ID != string(c.ID) {
		t.Fatal(err)
	}
	if err := final(c.ID, "c", transfer.Accepted); err == nil || errors.Is(err, transfer.ErrUnknown) {
		t.Errorf("while it is leased: %v", err) // the receiver must not forget it
	}
	if err := p.Carried(transfer.Receipt{By: "center"}); err != nil {
		t.Fatal(err)
	}
	if list, err := box.Carried(); err != nil || len(list) != 1 || list[0].ID != string(c.ID) || list[0].SHA256 != c.SHA256 {
		t.Errorf("%v %v", list, err)
	}
	if err := box.Requeue(string(c.ID)); err != nil {
		t.Error(err)
	}
	if err := box.Requeue(string(c.ID)); !errors.Is(err, transfer.ErrUnknown) {
		t.Error(err)
	}
}

// What an operator makes urgent while it waits behind others goes next, and the others keep their order.
func TestReorder(t *testing.T) {
	from, to := site(t), site(t)
	w := newWorld(t)
	name := transfer.QueueName("pacs", "clinic")
	w.tuneIn = func(c *transfer.ReceiverConfig) {
		c.Inbox = transfer.NewSpoolInbox(to, func(transfer.Item) (string, error) { return name, nil }, func() []string { return []string{name} })
	}
	w.tuneOut = func(c *transfer.SenderConfig) {
		c.Outbox, c.AheadItems, c.Codec = transfer.NewSpoolOutbox(from, transfer.SpoolRoute{Queue: "to.center", Service: "pacs"}), 2, nil
		c.Schedule = transfer.Schedule{BytesPerSecond: 4 << 20}
	}
	var items []spool.Item
	for i := range 8 {
		items = append(items, put(t, from, noise(byte(i), 1<<20), 0))
	}
	w.startReceiver()
	w.startSender()
	eventually(t, "the first one there", func() bool { return stats(to, name).Queued >= 1 })
	if err := from.SetPriority(items[7].ID, spool.Urgent); err != nil {
		t.Fatal(err)
	}
	w.sender.Reorder()
	eventually(t, "all there", func() bool { return stats(to, name).Queued == 8 })
	w.stopOut()
	list, err := to.List(name, 8)
	if err != nil {
		t.Fatal(err)
	}
	var order []string
	at := -1
	for i, it := range list {
		if it.Meta.Attributes[transfer.AttributeItem] == string(items[7].ID) {
			at = i
			if it.Meta.Priority != spool.Urgent {
				t.Errorf("at the center it has priority %d", it.Meta.Priority)
			}
			continue
		}
		order = append(order, it.Meta.Attributes[transfer.AttributeItem])
	}
	if at < 1 || at > 5 || !slices.IsSorted(order) {
		t.Errorf("the urgent one came as number %d, the others as %v", at, order)
	}
}
