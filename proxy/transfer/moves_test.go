package transfer_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/proxy/transfer"
)

// A long item goes on where it was, after a cut and after a restart of either end.
func TestResumesInsideAnItem(t *testing.T) {
	const size = 48 << 20
	w := newWorld(t)
	w.tuneOut = func(c *transfer.SenderConfig) { c.Codec = nil }
	w.out.add("long", noise(1, size), 0)
	w.startReceiver()
	w.startSender()
	arrived := int64(0)
	for i, breakIt := range []func(){
		w.cut,
		func() { w.stopOut(); w.startSender() },
		func() { w.stopIn(); w.startReceiver() },
	} {
		before := w.sender.Progress().LineBytes
		eventually(t, "more of it", func() bool { return w.sender.Progress().LineBytes > before+int64(4+i)<<20 })
		sender := w.sender
		breakIt()
		arrived += sender.Progress().LineBytes - before
		if w.in.count() > 0 {
			t.Skip("the machine was faster than the test")
		}
	}
	before := w.sender.Progress().LineBytes
	eventually(t, "all of it", func() bool { return w.in.count() == 1 })
	eventually(t, "carried", func() bool { return w.out.in(carried) == 1 })
	arrived += w.sender.Progress().LineBytes - before
	w.stopOut()
	if arrived > size+24<<20 {
		t.Errorf("%d bytes were sent for %d", arrived, size)
	}
	if !bytes.Equal(w.in.got["long"][0], noise(1, size)) {
		t.Error("other bytes")
	}
}

// What is urgent passes what is not, also inside an item.
func TestUrgentFirst(t *testing.T) {
	w := newWorld(t)
	w.tuneOut = func(c *transfer.SenderConfig) {
		c.Codec = nil
		c.Schedule = transfer.Schedule{BytesPerSecond: 4 << 20}
	}
	for i := range 6 {
		w.out.add(fmt.Sprintf("bulk-%d", i), noise(byte(i), 1<<20), 0)
	}
	w.startReceiver()
	w.startSender()
	eventually(t, "under way", func() bool { return w.sender.Progress().LineBytes > 200_000 })
	begun := time.Now()
	w.out.add("urgent", noise(99, 200_000), 9)
	eventually(t, "the urgent one", func() bool { return w.in.has("urgent") })
	took := time.Since(begun)
	eventually(t, "all", func() bool { return w.in.count() == 7 })
	all := time.Since(begun)
	w.stopOut()
	if i := slices.Index(w.in.order, "urgent"); i > 1 || took > all/2 {
		t.Errorf("the urgent one came as number %d after %v, the last after %v", i, took, all)
	}
	if all < 500*time.Millisecond {
		t.Errorf("6 MiB at 4 MiB/s took %v", all)
	}
}

// Payloads that cannot be read are for an operator, the others go on.
func TestSpoiledPayload(t *testing.T) {
	w := newWorld(t)
	w.out.add("spoiled", noise(1, 5000), 0)
	w.out.items["spoiled"].spoiled = true
	w.out.add("good", noise(2, 5000), 0)
	w.out.add("changed", noise(3, 5000), 0)
	w.out.items["changed"].payload = noise(4, 5000) // arrives whole and is another
	w.startReceiver()
	w.startSender()
	eventually(t, "the good one", func() bool { return w.in.count() == 1 })
	eventually(t, "the spoiled one parked", func() bool { return w.out.in(parked) == 1 })
	w.stopOut()
	if w.out.items["spoiled"].state != parked || len(w.in.got["changed"]) > 0 {
		t.Error("what is damaged was stored")
	}
}

// A receiver that lost its disk is sent everything anew that it had not delivered.
func TestReceiverThatForgot(t *testing.T) {
	w := newWorld(t)
	w.out.add("a", noise(1, 5000), 0)
	w.startReceiver()
	w.startSender()
	eventually(t, "carried", func() bool { return w.out.in(carried) == 1 })
	w.stopOut()
	w.stopIn()
	w.dir, w.in = t.TempDir(), newInbox()
	w.startReceiver()
	w.startSender()
	eventually(t, "stored again", func() bool { return w.in.count() == 1 })
	eventually(t, "carried again", func() bool { return w.out.in(carried) == 1 && w.sender.Progress().Again == 1 })
}

// An item that is missing in the receiving queue, after a restart or while it runs, was dropped there by somebody: its sender is told.
func TestDroppedAtTheReceiver(t *testing.T) {
	for _, restart := range []bool{true, false} {
		t.Run(fmt.Sprintf("restart=%v", restart), func(t *testing.T) {
			w := newWorld(t)
			w.tuneIn = func(c *transfer.ReceiverConfig) { c.SweepEvery = time.Millisecond }
			w.out.add("a", noise(1, 5000), 0)
			w.out.add("b", noise(2, 5000), 0)
			w.startReceiver()
			w.startSender()
			eventually(t, "carried", func() bool { return w.out.in(carried) == 2 })
			if restart {
				w.stopIn()
			}
			w.in.mu.Lock()
			delete(w.in.held, "a")
			w.in.mu.Unlock()
			if restart {
				w.startReceiver()
			}
			eventually(t, "parked", func() bool { return w.out.in(parked) == 1 })
			w.stopOut()
			w.stopIn()
			if r := w.out.items["a"].final; !strings.Contains(r.Reason, "dropped") {
				t.Errorf("%+v", r)
			}
			if w.out.in(carried) != 1 {
				t.Error("the one that is there is not carried any more")
			}
		})
	}
}

// The end of an item may be known before it is signed for, and the disk of its sender may fail at that moment. It keeps the end nevertheless.
func TestEndBeforeItIsTaken(t *testing.T) {
	w := newWorld(t)
	w.tuneIn = func(c *transfer.ReceiverConfig) { c.MaxItems = 4 } // so that most wait for their turn
	w.startReceiver()
	w.in.after = func(it transfer.Item) {
		if err := w.in.deliver(w.receiver, accepted); err != nil {
			t.Error(err)
		}
		eventually(t, "the sender has the end, or the item once more", func() bool {
			w.out.mu.Lock()
			defer w.out.mu.Unlock()
			b := w.out.items[it.ID]
			return b.state == done || b.state == leased && b.taken.Kind != 0
		})
	}
	const items = 20
	w.out.lose = items / 2
	for n := range items {
		w.out.add(fmt.Sprintf("item-%d", n), noise(byte(n), 100), 0)
	}
	w.startSender()
	eventually(t, "all ended", func() bool { return w.out.in(done) == items })
	w.stopOut()
	w.stopIn()
}

// An end that the sender's disk could not keep for a moment is kept soon after, and not with the next ping of an idle line.
func TestEndIsKeptSoon(t *testing.T) {
	w := newWorld(t)
	w.startReceiver()
	w.out.unkept = 6
	for n := range 3 {
		w.out.add(fmt.Sprintf("item-%d", n), noise(byte(n), 100), 0)
	}
	w.startSender()
	eventually(t, "stored", func() bool { return w.in.count() == 3 })
	begun := time.Now()
	for range 3 {
		if err := w.in.deliver(w.receiver, accepted); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all ended", func() bool { return w.out.in(done) == 3 })
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}

// No bytes are spent on what the receiver has.
func TestDuplicateCostsNothing(t *testing.T) {
	w := newWorld(t)
	w.out.add("a", noise(1, 900_000), 0)
	w.out.lose = 1 // the sender forgets that it was taken
	w.startReceiver()
	w.startSender()
	eventually(t, "carried", func() bool { return w.out.in(carried) == 1 })
	if n := w.sender.Progress().LineBytes; n != 900_000 || w.in.count() != 1 {
		t.Errorf("%d bytes, stored %d times", n, w.in.count())
	}
}

// A line limit holds, and can be changed while it does.
func TestScheduleIsKept(t *testing.T) {
	w := newWorld(t)
	w.tuneOut = func(c *transfer.SenderConfig) {
		c.Codec = nil
		c.Schedule = transfer.Schedule{BytesPerSecond: 100_000}
	}
	w.out.add("a", noise(1, 4<<20), 0)
	w.startReceiver()
	w.startSender()
	begun := time.Now()
	eventually(t, "under way", func() bool { return w.sender.Progress().LineBytes > 60_000 })
	if took := time.Since(begun); took < 300*time.Millisecond {
		t.Errorf("60 KB at 100 KB/s took %v", took)
	}
	if err := w.sender.SetSchedule(transfer.Schedule{BytesPerSecond: 1}); err == nil {
		t.Error("a limit of one byte")
	}
	if err := w.sender.SetSchedule(transfer.Schedule{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all", func() bool { return w.in.count() == 1 })
}

func TestConfigurationsAreChecked(t *testing.T) {
	w := newWorld(t)
	for name, c := range map[string]transfer.SenderConfig{
		"no node":    {Network: w.net, Outbox: w.out},
		"no outbox":  {Network: w.net, Node: "a"},
		"no network": {Outbox: w.out, Node: "a"},
		"lanes":      {Network: w.net, Outbox: w.out, Node: "a", Lanes: 99},
		"key":        {Network: w.net, Outbox: w.out, Node: "a", PeerKey: []byte{1}},
		"schedule":   {Network: w.net, Outbox: w.out, Node: "a", Schedule: transfer.Schedule{BytesPerSecond: 1}},
	} {
		if _, err := transfer.NewSender(c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// What is routine goes on, slowly, while there is always something urgent, whether that is offered a few at a time or all at once; and the urgent ones
// keep their order.
func TestRoutineIsNotStarved(t *testing.T) {
	for _, ahead := range []int{4, 64} {
		notStarved(t, ahead)
	}
}

func notStarved(t *testing.T, ahead int) {
	w := newWorld(t)
	w.tuneOut = func(c *transfer.SenderConfig) {
		c.Codec, c.AheadItems = nil, ahead
		c.Schedule = transfer.Schedule{BytesPerSecond: 8 << 20}
	}
	const flood = 24
	w.out.add("routine-0", noise(200, 200_000), 0)
	w.out.add("routine-1", noise(201, 200_000), 0)
	for i := range flood {
		w.out.add(fmt.Sprintf("urgent-%02d", i), noise(byte(i), 1<<20), transfer.Urgent)
	}
	w.startReceiver()
	w.startSender()
	eventually(t, "all", func() bool { return w.in.count() == flood+2 })
	w.stopOut()
	var urgent, places []int
	for i, id := range w.in.order {
		n := 0
		if _, err := fmt.Sscanf(id, "urgent-%d", &n); err == nil {
			urgent = append(urgent, n)
			continue
		}
		places = append(places, i)
	}
	if places[0] < 2 || places[1] > flood-4 {
		t.Errorf("with %d ahead the routine ones came at %v of %d", ahead, places, flood+2)
	}
	if !nearlySorted(urgent) {
		t.Errorf("with %d ahead the urgent ones came as %v", ahead, urgent)
	}
}

// nearlySorted takes neighbors in another order: lanes are not in step.
func nearlySorted(list []int) bool {
	for i, n := range list {
		if n < i-1 || n > i+1 {
			return false
		}
	}
	return true
}
