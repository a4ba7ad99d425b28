package transfer_test

import (
	"bytes"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/towpath/towpath/proxy/transfer"
)

// Whatever is cut, restarted, refused or lost in between: each item comes to the inbox exactly once, bit-identical, and both sides end up with
// the same word on it.
func TestNothingLostNothingTwice(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t)
		defer func() { w.stopOut(); w.stopIn() }()
		w.tuneIn = func(c *transfer.ReceiverConfig) {
			c.InMemory, c.Memory = 64<<10, 1<<20
			c.MaxItems = rapid.IntRange(1, 20).Draw(rt, "items at a time")
		}
		want := map[string][]byte{}
		fate := map[string]bool{} // refused by the application
		put := func() {
			id := fmt.Sprintf("item-%d", len(want))
			n := rapid.SampledFrom([]int{0, 1, 900, 20_000, 64 << 10, 70_000, 300_000}).Draw(rt, "size")
			payload := noise(byte(len(want)), n)
			if rapid.Bool().Draw(rt, "compressible") {
				payload = bytes.Repeat([]byte(id+" "), n/4+1)[:n]
			}
			want[id] = payload
			fate[id] = rapid.IntRange(0, 4).Draw(rt, "fate") == 0
			w.out.add(id, payload, rapid.IntRange(0, 9).Draw(rt, "priority"))
		}
		verdict := func(h transfer.Held) transfer.Result {
			if fate[h.ID] {
				return transfer.Result{Code: "C000", Peer: "PACS", Reason: "no"}
			}
			return accepted(h)
		}
		deliver := func() {
			if err := w.in.deliver(w.receiver, verdict); err != nil {
				rt.Fatal(err)
			}
		}
		for range rapid.IntRange(1, 6).Draw(rt, "first") {
			put()
		}
		w.startReceiver()
		w.startSender()
		for range rapid.IntRange(0, 12).Draw(rt, "events") {
			switch rapid.SampledFrom([]string{"put", "cut", "sender", "receiver", "both", "full", "lose", "deliver", "wait"}).Draw(rt, "event") {
			case "put":
				put()
			case "cut":
				w.cut()
			case "sender":
				w.stopOut()
				w.startSender()
			case "receiver":
				w.stopIn()
				w.startReceiver()
			case "both":
				w.stopOut()
				w.stopIn()
				w.startReceiver()
				w.startSender()
			case "full":
				w.in.mu.Lock()
				w.in.full = 1
				w.in.mu.Unlock()
			case "lose":
				w.out.mu.Lock()
				w.out.lose = 1
				w.out.mu.Unlock()
			case "deliver":
				deliver()
			case "wait":
				n := w.in.count() + 1
				if n <= len(want) {
					eventually(t, "one more", func() bool { return w.in.count() >= n })
				}
			}
		}
		refused := 0
		for _, r := range fate {
			if r {
				refused++
			}
		}
		eventually(t, "all ended", func() bool {
			deliver()
			return w.out.in(done) == len(want)-refused && w.out.in(parked) == refused
		})
		w.stopOut()
		w.stopIn()
		for id, payload := range want {
			if got := w.in.got[id]; len(got) != 1 || !bytes.Equal(got[0], payload) {
				rt.Fatalf("%s came %d times, or with other bytes", id, len(got))
			}
			if b := w.out.items[id]; b.final.Origin.ID != id || (b.final.Kind == transfer.Parked) != fate[id] {
				rt.Fatalf("%s: the sender believes %v", id, b.final.Kind)
			}
		}
		if len(w.out.illegal) > 0 {
			rt.Fatal(w.out.illegal)
		}
	})
}
