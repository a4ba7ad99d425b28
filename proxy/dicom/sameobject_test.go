package dicom_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/proxy/dicom"
)

// TestSameObjectTwice is a modality's technician who sends a study again, at once and after it was deleted, across restarts.
func TestSameObjectTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pacs := &holdings{habits: habits{finds: true}}
		b := newBench(t, pacs, nil)
		data, other := dataSet("1.2.3", "DOE"), dataSet("1.2.3", "ROE")
		send := func(n int, data string, want int) {
			t.Helper()
			if err := b.persist(numbered(n, "1.2.3", data), data, false); err != nil {
				t.Fatal(err)
			}
			if got := pacs.count("1.2.3", data); got != want {
				t.Errorf("item %d: stored %d times instead of %d", n, got, want)
			}
			b.restart()
		}
		send(1, data, 1)
		send(300, data, 1) // again at once
		if pacs.questions("C-FIND-RQ") != 0 {
			t.Error("asked for what was delivered a moment ago")
		}
		time.Sleep(time.Hour) // fake time
		send(600, data, 1)    // still there
		pacs.mu.Lock()
		pacs.stored = nil
		pacs.mu.Unlock()
		time.Sleep(time.Hour)
		send(900, data, 1) // deleted there since
		if err := b.persist(numbered(1200, "1.2.3", other), other, false); err != nil {
			t.Fatal(err)
		}
		if c := b.ledger.Counts(); pacs.count("1.2.3", other) != 1 || c.Conflicts != 1 || c.LastConflict.IsZero() {
			t.Errorf("other bytes: stored %d times, %+v", pacs.count("1.2.3", other), c)
		}
		b.sink.Idle()
	})
}

// TestRetrievedAgain is somebody at a workstation who retrieves a study, deletes it there and retrieves it again: unlike what a device sends twice,
// what was asked for by a C-MOVE is always sent.
func TestRetrievedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		workstation := &holdings{habits: habits{finds: true}}
		b := newBench(t, workstation, nil)
		data := dataSet("1.2.3", "DOE")
		for n := 1; n <= 2; n++ {
			it := numbered(n*300, "1.2.3", data)
			it.Meta.Attributes[dicom.AttrMoveOriginatorAE], it.Meta.Attributes[dicom.AttrMoveOriginatorMessage] = "WS", "1"
			if err := b.persist(it, data, false); err != nil {
				t.Fatal(err)
			}
			if got := workstation.count("1.2.3", data); got != n {
				t.Errorf("stored %d times after %d retrievals", got, n)
			}
			b.restart()
		}
		b.sink.Idle()
	})
}

// TestOtherBytesKeepTheirPlace has the second of two objects with the same UID come first out of the queue, because the first one waits
// after a failure: it waits for the first, and both arrive in order. A first one that an operator has dropped is not waited for.
func TestOtherBytesKeepTheirPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full := true
		pacs := &holdings{habits: habits{mishaps: func(string, int) mishap {
			if full {
				return fullNow
			}
			return allWell
		}}}
		b := newBench(t, pacs, nil)
		first, second := dataSet("1.2.3", "FIRST"), dataSet("1.2.3", "SECOND")
		if err := b.deliver(numbered(1, "1.2.3", first), first); err == nil {
			t.Fatal("delivered to a full archive")
		}
		full = false
		if err := b.deliver(numbered(2, "1.2.3", second), second); err == nil || isPermanent(err) {
			t.Fatalf("the second overtakes the first: %v", err)
		}
		for n, data := range []string{first, second} {
			if err := b.deliver(numbered(n+1, "1.2.3", data), data); err != nil {
				t.Fatal(err)
			}
		}
		if pacs.stored[0].data != first || pacs.stored[1].data != second || len(pacs.stored) != 2 {
			t.Error("not in the order received")
		}
		full = true
		if err := b.deliver(numbered(3, "1.2.4", first), first); err == nil {
			t.Fatal("delivered to a full archive")
		}
		full = false
		time.Sleep(dicom.DefaultOrderHold) // fake time, in which the queue would have given it out again
		if err := b.deliver(numbered(4, "1.2.4", second), second); err != nil {
			t.Errorf("waits for an object that is gone: %v", err)
		}
		b.sink.Idle()
	})
}

// TestObjectThatAlwaysFailsIsParked has an archive that aborts on one object, and one that answers it with A700, while others pass;
// and one that is full for two days, which is waited for.
func TestObjectThatAlwaysFailsIsParked(t *testing.T) {
	for name, what := range map[string]mishap{"aborts": abortsAfter, "aborts early": abortsEarly, "A700": fullNow} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pacs := &holdings{habits: habits{mishaps: func(instance string, _ int) mishap {
					if instance == "1.2.666" {
						return what
					}
					return allWell
				}}}
				b := newBench(t, pacs, nil)
				bad, good := dataSet("1.2.666", "ODD"), dataSet("1.2.3", "DOE")
				if what == abortsEarly {
					bad += strings.Repeat("pixels..", 400_000)
				}
				began := time.Now()
				var err error
				for n := 1; n < 1000; n++ {
					if err = b.deliver(numbered(1, "1.2.666", bad), bad); isPermanent(err) {
						break
					}
					if err := b.deliver(numbered(n+1, fmt.Sprint("1.2.3.", n), good), good); err != nil {
						t.Fatal(err)
					}
					time.Sleep(5 * time.Minute) // fake time
				}
				if !isPermanent(err) || !strings.Contains(err.Error(), "failed") || strings.Contains(err.Error(), "666") {
					t.Fatalf("got %v", err)
				}
				if took := time.Since(began); took < time.Hour || took > 2*time.Hour {
					t.Errorf("parked after %v", took)
				}
				b.sink.Idle()
			})
		})
	}
	t.Run("full for two days", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			until := time.Now().Add(48 * time.Hour)
			pacs := &holdings{habits: habits{mishaps: func(string, int) mishap {
				if time.Now().Before(until) {
					return fullNow
				}
				return allWell
			}}}
			b := newBench(t, pacs, nil)
			data := dataSet("1.2.3", "DOE")
			for time.Now().Before(until) {
				if err := b.deliver(numbered(1, "1.2.3", data), data); err == nil || isPermanent(err) {
					t.Fatalf("got %v", err)
				}
				time.Sleep(5 * time.Minute) // fake time
			}
			if err := b.deliver(numbered(1, "1.2.3", data), data); err != nil {
				t.Error(err)
			}
			b.sink.Idle()
		})
	})
}
