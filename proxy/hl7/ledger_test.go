package hl7_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/proxy/hl7"
	"github.com/towpath/towpath/proxy/spool"
)

func openLedger(t *testing.T, dir string, opts hl7.LedgerOptions) *hl7.Ledger {
	t.Helper()
	l, err := hl7.OpenLedger(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// once is a box with a ledger.
type once struct {
	*box
	ledger   *hl7.Ledger
	counters *hl7.Counters
}

func newOnce(t *testing.T, f *far, dir string, opts hl7.LedgerOptions, routes func(*box) []hl7.Route) *once {
	t.Helper()
	o := &once{ledger: openLedger(t, dir, opts), counters: &hl7.Counters{}}
	o.box = newBoxOf(t, f, spool.Options{}, func(b *box) hl7.RouterConfig {
		return hl7.RouterConfig{Routes: routes(b), Queue: b.queue, Ledger: o.ledger, Counters: o.counters, Log: b.log.logger()}
	})
	return o
}

func queuedRoute(*box) []hl7.Route {
	return []hl7.Route{{Service: "results", Mode: hl7.Queued, QueueName: "results"}}
}

func (o *once) held() int {
	n := 0
	for _, st := range o.queue.Stats() {
		n += st.Queued
	}
	return n
}

func (o *once) counts(t *testing.T) hl7.Counts {
	t.Helper()
	for _, c := range o.counters.List() {
		if c.Service == "results" {
			return c
		}
	}
	return hl7.Counts{}
}

func TestRepeatedMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		o := newOnce(t, &far{}, dir, hl7.LedgerOptions{Age: 10 * time.Hour}, queuedRoute)
		first := order("1", "X")
		say := func(msg []byte, want int) {
			t.Helper()
			if a := o.send(t, msg); a.Code != hl7.AA || a.ControlID != "1" {
				t.Errorf("answer %+v", a)
			}
			if n := o.held(); n != want {
				t.Fatalf("%d messages are stored, want %d", n, want)
			}
		}
		say(first, 1)
		say(first, 1)
		time.Sleep(4 * time.Hour)
		say(first, 1)
		time.Sleep(time.Second)
		other := order("1", "X") // another time in MSH-7
		say(other, 2)
		say(other, 2)
		say(first, 2) // both are known, whoever sent them
		if c := o.counts(t); c.Duplicates != 4 || c.Reused != 1 || c.LastDuplicate.IsZero() || c.LastReused.IsZero() {
			t.Errorf("%+v", c)
		}
		time.Sleep(11 * time.Hour)
		say(other, 3) // nobody repeats a message for so long
	})
}

// TestLedgerRestart closes a ledger, with the end of its file cut, and with all of it lost but the queue.
func TestLedgerRestart(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, file string){
		"closed": func(*testing.T, string) {},
		"torn": func(t *testing.T, file string) {
			f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
			if err == nil {
				_, err = f.Write([]byte{0, 0, 0, 60, 1, 2, 3})
				_ = f.Close()
			}
			if err != nil {
				t.Fatal(err)
			}
		},
		"lost": func(t *testing.T, file string) {
			if err := os.Truncate(file, 0); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				o := newOnce(t, &far{}, dir, hl7.LedgerOptions{}, queuedRoute)
				for _, id := range []string{"1", "2"} {
					o.send(t, order(id, "X"))
				}
				if err := o.ledger.Close(); err != nil {
					t.Fatal(err)
				}
				damage(t, filepath.Join(dir, "messages.current"))
				again := newOnce(t, &far{}, dir, hl7.LedgerOptions{}, queuedRoute)
				if err := again.ledger.Adopt(o.queue); err != nil {
					t.Fatal(err)
				}
				for _, id := range []string{"1", "2", "3", "3"} {
					again.send(t, order(id, "X"))
				}
				if n := again.held(); n != 1 {
					t.Errorf("%d messages are new, want 1", n)
				}
				if c := again.counts(t); c.Duplicates != 3 || c.Reused != 0 {
					t.Errorf("%+v", c)
				}
			})
		})
	}
}

func TestLedgerIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		o := newOnce(t, &far{}, dir, hl7.LedgerOptions{Entries: 20}, queuedRoute)
		size := int64(0)
		for i := range 200 {
			o.send(t, order(string(rune('a'+i%26))+time.Duration(i).String(), "X"))
			for _, name := range []string{"messages.current", "messages.previous"} {
				if info, err := os.Stat(filepath.Join(dir, name)); err == nil {
					size = max(size, info.Size())
				}
			}
		}
		if size > 10*64 || size < 5*64 {
			t.Errorf("a file of the ledger had %d bytes", size)
		}
		o.send(t, order("a"+time.Duration(0).String(), "X"))
		if n := o.held(); n != 201 {
			t.Errorf("%d messages are stored, want 201: the oldest is forgotten", n)
		}
	})
}

// TestRepeatedWhileUnderWay sends a message on a second connection while the first still waits for the application, as a sender does whose
// own patience has ended.
func TestRepeatedWhileUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &far{answer: func(_ int, msg []byte) []byte { time.Sleep(20 * time.Second); return ackFor(msg, hl7.AA) }}
		dir := t.TempDir()
		routes := func(b *box) []hl7.Route {
			return []hl7.Route{{Service: "results", Mode: hl7.PassThrough, Network: b.net, Target: farAddress, Once: true}}
		}
		o := newOnce(t, f, dir, hl7.LedgerOptions{}, routes)
		impatient := o.dial(t)
		msg := order("1", "X")
		impatient.say(msg)
		time.Sleep(5 * time.Second)
		a := o.send(t, msg)
		if a.Code != hl7.AA || a.Text != "said the far end" || len(f.received()) != 1 {
			t.Errorf("%+v after %d deliveries", a, len(f.received()))
		}
		if a := o.send(t, msg); a.Text != "said the far end" || len(f.received()) != 1 {
			t.Errorf("once more: %+v after %d deliveries", a, len(f.received()))
		}
		// The answer survives a restart, a refusal is none.
		_ = o.ledger.Close()
		g := &far{answer: func(_ int, msg []byte) []byte { return ackFor(msg, hl7.AE) }}
		p := newOnce(t, g, dir, hl7.LedgerOptions{}, routes)
		if a := p.send(t, msg); a.Code != hl7.AA || a.Text != "said the far end" || len(g.received()) != 0 {
			t.Errorf("after a restart: %+v", a)
		}
		for range 2 {
			if a := p.send(t, order("2", "X")); a.Code != hl7.AE {
				t.Errorf("%+v", a)
			}
		}
		if n := len(g.received()); n != 2 {
			t.Errorf("a refused message was delivered %d times when sent twice", n)
		}
	})
}

// TestDeliveredOnlyWhenRemembered empties a queue whose ledger has lost everything, and repeats the messages.
func TestDeliveredOnlyWhenRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		o := newOnce(t, &far{}, dir, hl7.LedgerOptions{}, queuedRoute)
		msg := order("1", "X")
		o.send(t, msg)
		fresh := openLedger(t, t.TempDir(), hl7.LedgerOptions{})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			sink := hl7.NewSink(hl7.SinkConfig{Network: o.net, Target: farAddress, Ledger: fresh})
			done <- spool.Deliver(ctx, spool.DeliverConfig{Queue: o.queue, Name: "results", Sink: sink})
		}()
		time.Sleep(time.Minute)
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		o.box.relisten(t, hl7.RouterConfig{Routes: queuedRoute(nil), Queue: o.queue, Ledger: fresh})
		if a := o.sendTo(t, secondAddress, msg); a.Code != hl7.AA {
			t.Errorf("%+v", a)
		}
		if n := o.held(); n != 0 || len(o.far.received()) != 1 {
			t.Errorf("%d stored, %d delivered", n, len(o.far.received()))
		}
	})
}

// FuzzLedgerFile opens whatever a disk may hold. A ledger that was opened works, and what it then writes is read again.
func FuzzLedgerFile(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0, 0, 0, 56, 1, 2, 3})
	f.Add(bytes.Repeat([]byte{0xff}, 200))
	f.Fuzz(func(t *testing.T, content []byte) {
		dir := t.TempDir()
		for _, name := range []string{"messages.current", "messages.previous"} {
			if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		folder := t.TempDir()
		msg := []byte("MSH|^~\\&|A|B|C|D|||ORU^R01|1|P|2.5\r")
		for range 2 {
			l := openLedger(t, dir, hl7.LedgerOptions{})
			sink := hl7.NewFolderSink(filed(t, hl7.FolderConfig{Dir: folder, Ledger: l}), l, nil)
			if _, err := sink.Deliver(t.Context(), spool.Item{Size: int64(len(msg))}, bytes.NewReader(msg)); err != nil {
				t.Fatal(err)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if n := len(readFolder(t, folder)); n != 1 {
			t.Fatalf("%d files", n)
		}
	})
}
