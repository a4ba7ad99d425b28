package gateway

import (
	"testing"
	"time"

	"github.com/towpath/towpath/gateway/receipts"
	"github.com/towpath/towpath/proxy/spool"
)

// TestReceiptsAreKept notes two deliveries, the second by a sink that does not know the time.
func TestReceiptsAreKept(t *testing.T) {
	b := newBox(t)
	it := spool.Item{ID: "17", Meta: spool.Meta{Queue: "dicom.pacs"}, Size: 3, SHA256: [32]byte{0xab}, Created: time.Unix(50, 0).UTC()}
	b.keepReceipt(it, spool.Receipt{At: time.Unix(60, 0).UTC(), Code: "0000", Peer: "PACS", Signed: []byte("word")})
	b.keepReceipt(it, spool.Receipt{Code: "0000"})
	var got []receipts.Entry
	sum, err := b.Receipts(t.Context(), func(e receipts.Entry) error { got = append(got, e); return nil })
	if err != nil || sum.Broken != "" || len(got) != 2 {
		t.Fatalf("%+v, %v", sum, err)
	}
	e := got[0]
	if e.Queue != "dicom.pacs" || e.Item != "17" || e.Size != 3 || e.SHA256[:4] != "ab00" || !e.Taken.Equal(it.Created) || e.At.Unix() != 60 ||
		e.Code != "0000" || e.Peer != "PACS" || string(e.Signed) != "word" {
		t.Errorf("%+v", e)
	}
	if time.Since(got[1].At) > time.Minute {
		t.Errorf("without a time: %+v", got[1])
	}
	// What cannot be noted is told, and holds nothing up.
	if err := b.receipts.Close(); err != nil {
		t.Fatal(err)
	}
	b.keepReceipt(it, spool.Receipt{})
	if !b.health.Has(codeReceipts) {
		t.Error("nobody hears that receipts are not kept")
	}
}
