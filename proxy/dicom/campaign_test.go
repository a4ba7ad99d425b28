package dicom_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/towpath/towpath/proxy/dicom"
	"github.com/towpath/towpath/proxy/proxytest"
	"github.com/towpath/towpath/proxy/spool"
)

// TestExactlyOnceCampaign puts objects, some of them twice and some with other bytes under the same UID, through a real queue to an
// archive that has every mishap there is and breaks off questions too, and kills the box at random. In the end each object is at the
// archive once. Where two contents share a UID, asking cannot tell them apart: there each is at the archive at least once, in the order
// received.
func TestExactlyOnceCampaign(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		type object struct{ instance, data string }
		n := rapid.IntRange(1, 12).Draw(r, "objects")
		objects := make([]object, n)
		for i := range objects {
			instance := fmt.Sprintf("1.2.%d", rapid.IntRange(0, 7).Draw(r, "instance"))
			objects[i] = object{instance, dataSet(instance, rapid.SampledFrom([]string{"A", "A", "A", "B"}).Draw(r, "bytes"))}
		}
		mishaps := rapid.SliceOfN(rapid.SampledFrom([]mishap{allWell, allWell, storesSilent, losesSilent, abortsAfter, abortsEarly, fullNow}),
			0, 30).Draw(r, "mishaps")
		breaks := rapid.SliceOfN(rapid.Bool(), 0, 10).Draw(r, "broken questions")
		kills := rapid.SliceOfN(rapid.IntRange(1, 30), 0, 4).Draw(r, "seconds between kills")
		commits := rapid.Bool().Draw(r, "offers commitment")
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			pacs := &holdings{habits: habits{finds: true, commits: commits}}
			pacs.mishaps = func(_ string, nth int) mishap {
				if nth <= len(mishaps) {
					return mishaps[nth-1]
				}
				return allWell
			}
			asked := 0
			consecutive := 0
			pacs.findBreaks = func() bool {
				asked++
				broken := asked <= len(breaks) && breaks[asked-1] && consecutive < 3 // else it counts as one that cannot be asked
				if consecutive++; !broken {
					consecutive = 0
				}
				return broken
			}
			network := proxytest.NewNetwork()
			address, _ := serve(t, network, pacs)
			fill := func(q *spool.Spool) {
				for _, o := range objects {
					w, err := q.Create(spool.Meta{Queue: "q", Attributes: item("CT1", ctStorage, implicit, o.instance).Meta.Attributes})
					if err != nil {
						t.Fatal(err)
					}
					_, _ = w.Write([]byte(o.data))
					if _, err := w.Commit(); err != nil {
						t.Fatal(err)
					}
				}
			}
			// life is one life of the box; it reports whether all is delivered.
			life := func(span time.Duration, first bool) bool {
				q, err := spool.Open(dir, spool.Options{MinFreeBytes: -1})
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = q.Close() }()
				if first {
					fill(q)
				}
				ledger, err := dicom.OpenLedger(filepath.Join(dir, "books", "q.ledger"), dicom.LedgerOptions{})
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = ledger.Close() }()
				sink := dicom.NewSink(dicom.SinkConfig{Network: network, Target: address, CalledAE: "PACS", Ledger: ledger})
				ctx, cancel := context.WithTimeout(t.Context(), span)
				defer cancel()
				if err := spool.Deliver(ctx, spool.DeliverConfig{Queue: q, Name: "q", Sink: sink}); err != nil {
					t.Error(err)
				}
				st := q.Stats()
				if st[0].Parked > 0 {
					t.Errorf("parked: %s", st[0].ParkedError)
				}
				return st[0].Queued == 0
			}
			done := false
			for i, seconds := range kills {
				done = life(time.Duration(seconds)*time.Second, i == 0)
			}
			done = life(2*time.Hour, len(kills) == 0) || done
			if !done {
				t.Error("not everything is delivered after two hours")
			}
			contents := map[string]map[string]bool{}
			for _, o := range objects {
				if contents[o.instance] == nil {
					contents[o.instance] = map[string]bool{}
				}
				contents[o.instance][o.data] = true
			}
			for _, o := range objects {
				got := pacs.count(o.instance, o.data)
				if got < 1 || got > 1 && len(contents[o.instance]) == 1 {
					t.Errorf("%s is at the archive %d times", o.instance, got)
				}
			}
			position := func(o object) int {
				for i, s := range pacs.stored {
					if s == holding(o) {
						return i
					}
				}
				return -1
			}
			for i, a := range objects {
				for j, b := range objects[i+1:] {
					seenBefore := false
					for _, c := range objects[:i+1+j] {
						seenBefore = seenBefore || c == b
					}
					if a.instance == b.instance && !seenBefore && position(b) < position(a) {
						t.Errorf("%s: other bytes overtake", a.instance)
					}
				}
			}
		})
	})
}
