package transfer_test

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"testing"

	"go.uber.org/goleak"

	"github.com/towpath/towpath/proxy/transfer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Items of all sizes arrive bit-identical, and both sides know their ends.
func TestMoves(t *testing.T) {
	w := newWorld(t)
	sizes := []int{0, 1, 100, 10_000, 255 << 10, 256<<10 + 1, 1 << 20, 1<<20 + 1, 5<<20 + 17}
	for i, n := range sizes {
		payload := noise(byte(i), n)
		if i%2 == 0 {
			payload = bytes.Repeat([]byte("a study of many slices "), n/23+1)[:n]
		}
		w.out.add(fmt.Sprintf("item-%d", i), payload, i%10)
	}
	w.startReceiver()
	w.startSender()
	eventually(t, "all stored", func() bool { return w.in.count() == len(sizes) })
	if err := w.in.deliver(w.receiver, func(h transfer.Held) transfer.Result {
		if h.ID == "item-3" {
			return transfer.Result{Code: "A900", Peer: "PACS", Reason: "not for me"}
		}
		return accepted(h)
	}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all ended", func() bool { return w.out.in(done) == len(sizes)-1 && w.out.in(parked) == 1 })
	w.stopOut()
	for id, b := range w.out.items {
		got := w.in.got[id]
		if len(got) != 1 || !bytes.Equal(got[0], b.payload) {
			t.Errorf("%s arrived %d times, or other bytes", id, len(got))
		}
		it := w.in.items[id]
		if it.Node != senderNode || it.Attributes["object"] != id || it.Priority != b.item.Priority || !it.Created.Equal(b.item.Created) {
			t.Errorf("%s was announced as %+v", id, it)
		}
		for _, r := range []transfer.Receipt{b.taken, b.final} {
			again, err := transfer.ParseReceipt(r.Bytes())
			if err == nil {
				err = again.Verify(w.key.Public().(ed25519.PublicKey))
			}
			if err != nil || again.SHA256 != b.item.SHA256 || again.By != receiverNode {
				t.Errorf("%s: receipt %+v: %v", id, again, err)
			}
		}
		if want := transfer.Accepted; id != "item-3" && (b.final.Kind != want || b.final.Code != "0000") {
			t.Errorf("%s ended as %v", id, b.final.Kind)
		}
	}
	if p := w.sender.Progress(); p.Taken != uint64(len(sizes)) || p.Accepted != uint64(len(sizes)-1) || p.Parked != 1 || p.EncodedBlocks == 0 {
		t.Errorf("progress %+v", p)
	}
	if len(w.out.illegal) > 0 {
		t.Error(w.out.illegal)
	}
}
