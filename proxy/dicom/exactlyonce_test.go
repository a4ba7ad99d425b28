package dicom_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/proxy/dicom"
	"github.com/towpath/towpath/proxy/dicom/dimse"
	"github.com/towpath/towpath/proxy/dicom/pdu"
	"github.com/towpath/towpath/proxy/proxytest"
	"github.com/towpath/towpath/proxy/spool"
)

// numbered is an item of a spool, with the digest of its data.
func numbered(n int, instance, data string) spool.Item {
	it := item("CT1", ctStorage, implicit, instance)
	it.ID, it.SHA256, it.Size = spool.ID(fmt.Sprintf("%016x", n)), sha256.Sum256([]byte(data)), int64(len(data))
	return it
}

// bench is a Sink with its archive in fake time.
type bench struct {
	t      *testing.T
	cfg    dicom.SinkConfig
	sink   spool.Sink
	path   string
	ledger *dicom.Ledger
	pacs   *holdings
}

func newBench(t *testing.T, pacs *holdings, change func(*dicom.SinkConfig)) *bench {
	t.Helper()
	n := proxytest.NewNetwork()
	address, _ := serve(t, n, pacs)
	b := &bench{t: t, pacs: pacs, path: filepath.Join(t.TempDir(), "q.ledger")}
	b.cfg = dicom.SinkConfig{Network: n, Target: address, CalledAE: "PACS"}
	if change != nil {
		change(&b.cfg)
	}
	b.restart()
	return b
}

// restart is what a killed process comes back as: nothing is closed.
func (b *bench) restart() {
	b.t.Helper()
	if b.sink != nil {
		b.sink.Idle() // connections only: no goroutine may outlive the test
	}
	l, err := dicom.OpenLedger(b.path, dicom.LedgerOptions{})
	if err != nil {
		b.t.Fatal(err)
	}
	b.ledger = l
	cfg := b.cfg
	cfg.Ledger = l
	b.sink = dicom.NewSink(cfg)
	b.t.Cleanup(func() { _ = l.Close() })
}

func (b *bench) deliver(it spool.Item, data string) error {
	_, err := b.sink.Deliver(b.t.Context(), it, strings.NewReader(data))
	return err
}

// persist delivers as the queue does, again and again.
func (b *bench) persist(it spool.Item, data string, restarts bool) error {
	b.t.Helper()
	var err error
	for attempt := range 100 {
		if err = b.deliver(it, data); err == nil || isPermanent(err) {
			return err
		}
		time.Sleep(5 * time.Second) // fake time
		if restarts && attempt == 0 {
			b.restart()
		}
	}
	return fmt.Errorf("not delivered in 100 attempts: %w", err)
}

// TestInDoubtIsAsked breaks the association between the last byte and the answer, with and without the object having been stored, with
// and without a restart, and with archives that can be asked in different ways.
func TestInDoubtIsAsked(t *testing.T) {
	for name, tc := range map[string]struct {
		habits   habits
		mishap   mishap
		stores   int    // how often the object is at the archive in the end
		question string // that must have been asked
	}{
		"find, stored":                {habits{finds: true}, storesSilent, 1, "C-FIND-RQ"},
		"find, not stored":            {habits{finds: true}, losesSilent, 1, "C-FIND-RQ"},
		"find, aborted":               {habits{finds: true}, abortsAfter, 1, "C-FIND-RQ"},
		"commitment, stored":          {habits{commits: true}, storesSilent, 1, "N-ACTION-RQ"},
		"commitment, not stored":      {habits{commits: true}, losesSilent, 1, "N-ACTION-RQ"},
		"both, stored":                {habits{commits: true, finds: true}, storesSilent, 1, "N-ACTION-RQ"},
		"nothing to ask, stored":      {habits{}, storesSilent, 2, ""},
		"nothing to ask, not stored":  {habits{}, losesSilent, 1, ""},
		"find fails":                  {habits{finds: true, findStatus: 0xC001}, storesSilent, 2, "C-FIND-RQ"},
		"find ignores the keys":       {habits{finds: true, ignoresKeys: true}, storesSilent, 2, "C-FIND-RQ"},
		"find always breaks":          {habits{finds: true, findBreaks: func() bool { return true }}, storesSilent, 2, "C-FIND-RQ"},
		"asking is rejected for good": {habits{finds: true, rejects: &pdu.AssociateRJ{Result: 1, Source: 1, Reason: 1}}, storesSilent, 2, ""},
		"already there":               {habits{}, duplicate, 0, ""},
	} {
		for _, restarts := range []bool{false, true} {
			if restarts && (name == "find always breaks" || name == "already there") {
				continue // the first counts failures of one process; the second is refused
			}
			t.Run(fmt.Sprintf("%s, restarts %v", name, restarts), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					pacs := &holdings{habits: tc.habits}
					pacs.mishaps = func(_ string, nth int) mishap {
						if nth == 1 {
							return tc.mishap
						}
						return allWell
					}
					b := newBench(t, pacs, nil)
					data := dataSet("1.2.3", "DOE")
					err := b.persist(numbered(1, "1.2.3", data), data, restarts)
					if (err != nil) != (tc.mishap == duplicate) {
						t.Errorf("got %v", err)
					}
					if got := pacs.count("1.2.3", data); got != tc.stores {
						t.Errorf("stored %d times instead of %d", got, tc.stores)
					}
					if tc.question != "" && pacs.questions(tc.question) == 0 {
						t.Errorf("nobody asked by %s", tc.question)
					}
					for _, place := range pacs.places {
						if place != "IMAGE 1.2.77 1.2.77.1" {
							t.Errorf("asked for %q", place)
						}
					}
					if c := b.ledger.Counts(); c.InDoubt != 0 {
						t.Errorf("%+v", c)
					}
					b.sink.Idle()
				})
			})
		}
	}
}

// TestNotYetThereIsNotBelieved has an archive that stores slowly: it says "no" first.
func TestNotYetThereIsNotBelieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pacs := &holdings{habits: habits{finds: true}}
		pacs.mishaps = func(string, int) mishap { return losesSilent }
		b := newBench(t, pacs, nil)
		data := dataSet("1.2.3", "DOE")
		it := numbered(1, "1.2.3", data)
		for range 2 {
			if err := b.deliver(it, data); err == nil || isPermanent(err) {
				t.Fatalf("got %v", err)
			}
			time.Sleep(4 * time.Second) // fake time
		}
		if pacs.questions("C-STORE-RQ") != 1 {
			t.Error("sent again too early")
		}
		pacs.mu.Lock()
		pacs.stored = append(pacs.stored, holding{"1.2.3", data})
		pacs.mu.Unlock()
		if err := b.deliver(it, data); err != nil || pacs.questions("C-STORE-RQ") != 1 {
			t.Errorf("%v, sent %d times", err, pacs.questions("C-STORE-RQ"))
		}
		if c := b.ledger.Counts(); c.FoundPresent != 1 || c.Delivered != 1 {
			t.Errorf("%+v", c)
		}
		b.sink.Idle()
	})
}

// TestReportOnAnotherAssociation has the archive report to a queued route of ours, in the provider's role.
func TestReportOnAnotherAssociation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := proxytest.NewNetwork()
		commitments := dicom.NewCommitments()
		r, err := dicom.NewRouter(dicom.RouterConfig{
			Queue: &memoryQueue{}, Routes: []dicom.Route{{Mode: dicom.Queued, QueueName: "q"}}, Commitments: commitments,
		})
		if err != nil {
			t.Fatal(err)
		}
		here, _ := serve(t, n, r)
		statuses := make(chan dimse.Status, 2)
		pacs := &holdings{habits: habits{commits: true, mishaps: func(_ string, nth int) mishap { return map[int]mishap{1: storesSilent}[nth] }}}
		pacs.reporter = func(report []byte) {
			a := associate(t, n, here, "TOWPATH", context1(dicom.StorageCommitment, implicit))
			stranger := bytes.Replace(report, []byte("2.25."), []byte("2.26."), 1)
			for _, b := range [][]byte{stranger, report} {
				rq := dimse.EventReportRQ{MessageID: 7, SOPClass: dicom.StorageCommitment, SOPInstance: "1.2.840.10008.1.20.1.1", Event: 1}
				statuses <- call(t, a, 1, rq.Set(), bytes.NewReader(b)).Status
			}
			if err := a.Release(t.Context()); err != nil {
				t.Error(err)
			}
		}
		b := newBench(t, pacs, func(c *dicom.SinkConfig) { c.Commitments, c.AskingAE = commitments, "TOWPATH" })
		data := dataSet("1.2.3", "DOE")
		b.cfg.Network = n
		if err := b.persist(numbered(1, "1.2.3", data), data, false); err != nil {
			t.Error(err)
		}
		if got := pacs.count("1.2.3", data); got != 1 {
			t.Errorf("stored %d times", got)
		}
		if stranger, ours := <-statuses, <-statuses; stranger != 0x0112 || ours != dimse.Success {
			t.Errorf("the reports are answered with %s and %s", stranger, ours)
		}
		b.sink.Idle()
	})
}

// TestReportsThatDoNotCome has an archive that takes requests for commitment and reports to nowhere. It is asked by C-FIND from then on;
// if it has none, the object is sent again when patience has ended, and not before.
func TestReportsThatDoNotCome(t *testing.T) {
	for name, finds := range map[string]bool{"with C-FIND": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pacs := &holdings{habits: habits{commits: true, finds: finds, reporter: func([]byte) {}}}
				pacs.mishaps = func(_ string, nth int) mishap {
					if nth <= 3 {
						return storesSilent
					}
					return allWell
				}
				b := newBench(t, pacs, nil)
				began := time.Now()
				for n := 1; n <= 3; n++ {
					instance := fmt.Sprint("1.2.", n)
					data := dataSet(instance, "DOE")
					if err := b.deliver(numbered(n, instance, data), data); err == nil {
						t.Fatal("an answer out of nothing")
					}
				}
				for n := 1; n <= 3; n++ {
					instance := fmt.Sprint("1.2.", n)
					data := dataSet(instance, "DOE")
					var err error
					for range 1000 {
						if err = b.deliver(numbered(n, instance, data), data); err == nil {
							break
						}
						time.Sleep(time.Minute) // fake time
					}
					want := 1
					if !finds {
						want = 2
					}
					if got := pacs.count(instance, data); err != nil || got != want {
						t.Errorf("object %d: %v, stored %d times instead of %d", n, err, got, want)
					}
				}
				took := time.Since(began)
				if asked := pacs.questions("N-ACTION-RQ"); finds && (asked != 1 || took > 5*time.Minute) ||
					!finds && (asked != 3 || took < time.Hour) {
					t.Errorf("asked for commitment %d times, done after %v", asked, took)
				}
				b.sink.Idle()
			})
		})
	}
}

// TestParkInDoubt lets a person decide where the archive cannot be asked.
func TestParkInDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pacs := &holdings{habits: habits{mishaps: func(string, int) mishap { return storesSilent }}}
		b := newBench(t, pacs, func(c *dicom.SinkConfig) { c.InDoubt = dicom.ParkInDoubt })
		data := dataSet("1.2.3", "DOE")
		if err := b.persist(numbered(1, "1.2.3", data), data, false); !isPermanent(err) || pacs.count("1.2.3", data) != 1 {
			t.Errorf("%v, stored %d times", err, pacs.count("1.2.3", data))
		}
	})
}

// TestCutBeforeTheEndIsNoDoubt sends again without asking what cannot have arrived whole.
func TestCutBeforeTheEndIsNoDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pacs := &holdings{habits: habits{finds: true, mishaps: func(_ string, nth int) mishap { return map[int]mishap{1: abortsEarly}[nth] }}}
		b := newBench(t, pacs, nil)
		data := dataSet("1.2.3", "DOE") + strings.Repeat("pixels..", 400_000)
		if err := b.persist(numbered(1, "1.2.3", data), data, false); err != nil {
			t.Error(err)
		}
		if pacs.questions("C-FIND-RQ") != 0 || pacs.count("1.2.3", data) != 1 {
			t.Errorf("asked %d times, stored %d times", pacs.questions("C-FIND-RQ"), pacs.count("1.2.3", data))
		}
		b.sink.Idle()
	})
}

// TestCanceledInDoubt stops the service while the answer is awaited.
func TestCanceledInDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pacs := &holdings{habits: habits{finds: true}}
		b := newBench(t, pacs, nil)
		data := dataSet("1.2.3", "DOE")
		ctx, cancel := context.WithCancel(t.Context())
		pacs.mishaps = func(_ string, nth int) mishap {
			if nth == 1 {
				cancel()
				time.Sleep(time.Second) // fake time
				return storesSilent
			}
			return allWell
		}
		if _, err := b.sink.Deliver(ctx, numbered(1, "1.2.3", data), strings.NewReader(data)); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		b.restart()
		if err := b.persist(numbered(1, "1.2.3", data), data, false); err != nil {
			t.Error(err)
		}
		if got := pacs.count("1.2.3", data); got != 1 {
			t.Errorf("stored %d times", got)
		}
		b.sink.Idle()
	})
}
