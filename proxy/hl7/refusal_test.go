package hl7_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/hl7"
	"github.com/towpath/towpath/proxy/spool"
)

// practiceAddress is the senders' own system, which hears what the application answered.
const practiceAddress = "192.168.1.9:2575"

// deliverWith runs a Sink of a queue until the test ends.
func (b *box) deliverWith(t *testing.T, queue string, cfg hl7.SinkConfig) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	cfg.Network, cfg.Log = b.net, b.log.logger()
	wg.Go(func() {
		if err := spool.Deliver(ctx, spool.DeliverConfig{Queue: b.queue, Name: queue, Sink: hl7.NewSink(cfg), Log: cfg.Log}); err != nil {
			t.Errorf("Deliver: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
}

// refusing answers message "bad" with a code, up to a number of times, and all others with AA.
func refusing(code hl7.Code, times int) *far {
	return &far{answer: func(_ int, msg []byte) []byte {
		h, err := hl7.ParseHeader(msg)
		if err != nil {
			return nil
		}
		if h.ControlID() == "bad" && times > 0 {
			times--
			return ackFor(msg, code)
		}
		return ackFor(msg, hl7.AA)
	}}
}

func TestRefusals(t *testing.T) {
	for name, tc := range map[string]struct {
		far     *far
		halt    bool
		arrived string // control IDs, in order, as the receiver got them
		parked  int
		left    int
	}{
		"AE for a while": {refusing(hl7.AE, 3), false, "1 bad bad bad bad 2", 0, 0},
		"AE for ever":    {refusing(hl7.AE, 99), false, "1 bad bad bad bad bad bad 2", 1, 0},
		"AE, stop":       {refusing(hl7.AE, 99), true, "1 bad bad bad bad bad bad", 1, 1},
		"AR, skip":       {refusing(hl7.AR, 99), false, "1 bad 2", 1, 0},
		"AR, stop":       {refusing(hl7.AR, 99), true, "1 bad", 1, 1},
		"CR, stop":       {refusing(hl7.CR, 99), true, "1 bad", 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOnce(t, tc.far, t.TempDir(), hl7.LedgerOptions{}, queuedRoute)
				if err := o.queue.Halt("results", tc.halt); err != nil {
					t.Fatal(err)
				}
				for _, id := range []string{"1", "bad", "2"} {
					o.send(t, order(id, "X"))
				}
				o.deliverWith(t, "results", hl7.SinkConfig{
					Service: "results", Target: farAddress, ErrorRetries: 5, Ledger: o.ledger, Counters: o.counters,
				})
				time.Sleep(3 * time.Hour)
				if got := strings.Join(ids(tc.far.received()), " "); got != tc.arrived {
					t.Errorf("the receiver got %s, want %s", got, tc.arrived)
				}
				st := o.queue.Stats()[0]
				if st.Parked != tc.parked || st.Queued != tc.left || st.Halted != (tc.left > 0) {
					t.Errorf("%+v", st)
				}
				if c := o.counts(t); c.Refused != uint64(tc.parked) || c.Unreturned != uint64(tc.parked) || c.Returned != 0 {
					t.Errorf("%+v", c)
				}
				if tc.halt { // until an operator decides
					item, err := o.queue.List("results", 1)
					if err != nil || o.queue.Drop(item[0].ID) != nil {
						t.Fatal(err)
					}
					time.Sleep(time.Minute)
					if got := ids(tc.far.received()); got[len(got)-1] != "2" {
						t.Errorf("afterwards the receiver got %s", got)
					}
				}
			})
		})
	}
}

// TestRefusalsTravelBack has the receiver refuse in different ways and times, and looks at what the senders' own system is told.
func TestRefusalsTravelBack(t *testing.T) {
	for name, tc := range map[string]struct {
		accept, application string // MSH-15 and MSH-16
		answers             []hl7.Code
		told                string
	}{
		"original, taken":              {"", "", []hl7.Code{hl7.AA}, ""},
		"original, refused":            {"", "", []hl7.Code{hl7.AR}, "AR"},
		"enhanced, taken":              {"AL", "AL", []hl7.Code{hl7.CA, hl7.AA}, "AA"},
		"enhanced, application alone":  {"AL", "AL", []hl7.Code{hl7.AA}, "AA"},
		"enhanced, refused afterwards": {"AL", "AL", []hl7.Code{hl7.CA, hl7.AE}, "AE"},
		"enhanced, refused at once":    {"AL", "NE", []hl7.Code{hl7.CR}, "CR"},
		"enhanced, on error only":      {"AL", "ER", []hl7.Code{hl7.CA, hl7.AA}, ""},
		"enhanced, on error":           {"AL", "ER", []hl7.Code{hl7.CA, hl7.AR}, "AR"},
		"enhanced, our word was given": {"NE", "AL", []hl7.Code{hl7.AA}, ""},
		"enhanced, nobody asks":        {"AL", "NE", []hl7.Code{hl7.CA, hl7.AA}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &far{answers: func(_ int, msg []byte) (out [][]byte) {
					for _, c := range tc.answers {
						out = append(out, ackFor(msg, c))
					}
					return out
				}}
				o := newOnce(t, f, t.TempDir(), hl7.LedgerOptions{}, queuedRoute)
				practice := &far{answer: func(int, []byte) []byte { return nil }}
				serve(t, o.net, practiceAddress, practice)
				returns := hl7.NewReturns(o.queue, o.ledger)
				returns.Set([]hl7.ReturnRoute{
					{Receiver: "OTHER", QueueName: "other"}, {Receiver: "PRAXIS^WEST", QueueName: "back"}, {Receiver: "PRAXIS", QueueName: "other"},
				})
				o.deliverWith(t, "results", hl7.SinkConfig{
					Service: "results", Target: farAddress, Ledger: o.ledger, Returns: returns, Counters: o.counters, ErrorRetries: -1,
				})
				o.deliverWith(t, "back", hl7.SinkConfig{Service: "back", Target: practiceAddress, Ledger: o.ledger, Counters: o.counters})
				o.send(t, withModes(order("1", "X"), tc.accept, tc.application))
				time.Sleep(time.Minute)
				got := practice.received()
				if tc.told == "" {
					if len(got) != 0 {
						t.Fatalf("the sender was told %q", got)
					}
					return
				}
				if len(got) != 1 {
					t.Fatalf("the sender was told %d times", len(got))
				}
				a, err := hl7.ParseAck(got[0])
				if err != nil || string(a.Code) != tc.told || a.ControlID != "1" || a.Text != "said the far end" {
					t.Errorf("the sender was told %+v, %v", a, err)
				}
				if c := o.counts(t); c.Returned != 1 || c.Unreturned != 0 {
					t.Errorf("%+v", c)
				}
			})
		})
	}
}

// TestToldOnce parks a refused message, has an operator try it again, and a full queue for what is to be told at first.
func TestToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOnce(t, refusing(hl7.AR, 99), t.TempDir(), hl7.LedgerOptions{}, queuedRoute)
		returns := hl7.NewReturns(o.queue, o.ledger)
		returns.Set([]hl7.ReturnRoute{{QueueName: "back"}})
		o.send(t, order("bad", "X"))
		o.deliverWith(t, "results", hl7.SinkConfig{Service: "results", Target: farAddress, Ledger: o.ledger, Returns: returns, Counters: o.counters})
		time.Sleep(time.Minute)
		if n, err := o.queue.RetryParked("results"); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		time.Sleep(time.Minute)
		items, err := o.queue.List("back", 9)
		if err != nil || len(items) != 1 || len(o.far.received()) != 2 {
			t.Errorf("%d acknowledgments wait after %d attempts, %v", len(items), len(o.far.received()), err)
		}
	})
}

// TestSameControlIDTwice has the application's answer to one message come while the next one, with the same control ID, waits for its own.
func TestSameControlIDTwice(t *testing.T) {
	for _, mode := range []string{"QUEUED", "CARDIO"} {
		synctest.Test(t, func(t *testing.T) {
			f := &far{}
			f.answers = func(n int, msg []byte) [][]byte {
				if n == 1 { // storage at once, the application much later
					time.AfterFunc(2*time.Second, func() {
						f.mu.Lock()
						defer f.mu.Unlock()
						_, _ = f.conns[0].Write(slices.Concat([]byte{0x0b}, ackFor(msg, hl7.AA), []byte{0x1c, 0x0d}))
					})
					return [][]byte{ackFor(msg, hl7.CA)}
				}
				time.Sleep(10 * time.Second)
				return [][]byte{ackFor(msg, hl7.AR)}
			}
			b := newBox(t, f)
			b.deliver(t)
			n := b.dial(t)
			for i := range 2 {
				n.say(withModes(append(order("1", mode), fmt.Sprintf("NTE|1||%d\r", i)...), "AL", "AL"))
				want := hl7.CA
				if mode == "CARDIO" && i == 1 {
					want = hl7.AR
				}
				if a := n.hearAck(); a.Code != want {
					t.Errorf("%s, message %d: %s, want %s", mode, i, a.Code, want)
				}
			}
			time.Sleep(time.Minute)
			for _, st := range b.queue.Stats() {
				if mode == "QUEUED" && (st.Parked != 1 || st.Delivered != 1) {
					t.Errorf("the late answer was booked to the wrong message: %+v", st)
				}
			}
		})
	}
}

// TestTypesAndCopies routes by type and takes copies.
func TestTypesAndCopies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoxWith(t, &far{}, spool.Options{MaxBytes: 20_000}, func(n proxy.Network) []hl7.Route {
			return []hl7.Route{
				{Service: "orders", Mode: hl7.Queued, Types: []string{"ORM"}, QueueName: "orders"},
				{Service: "new", Mode: hl7.Queued, Types: []string{"ORM^O01", "OML^O21"}, QueueName: "new"},
				{Service: "cardio", Mode: hl7.Queued, Receiver: "CARDIO", Types: []string{"ORU"}, QueueName: "cardio"},
				{Service: "query", Mode: hl7.PassThrough, Receiver: "QUERY", Network: n, Target: farAddress},
				{Service: "archive", Mode: hl7.Queued, Copy: true, QueueName: "archive"},
				{Service: "statistics", Mode: hl7.Queued, Copy: true, Types: []string{"ORU^R01"}, QueueName: "statistics"},
			}
		})
		total := map[string]int{}
		for _, tc := range []struct {
			kind, receiver string
			code           hl7.Code
			queues         string
		}{
			{"ORM^O01", "X", hl7.AA, "new archive"},
			{"ORM^O02", "X", hl7.AA, "orders archive"},
			{"orm^o01", "X", hl7.AA, "new archive"},
			{"ORM", "X", hl7.AA, "orders archive"},
			{"ORU^R01^ORU_R01", "CARDIO", hl7.AA, "cardio archive statistics"},
			{"ORU^R01", "X", hl7.AA, "archive statistics"},
			{"ADT^A01", "QUERY", hl7.AA, "archive"},
		} {
			msg := []byte("MSH|^~\\&|A|B|" + tc.receiver + "|D|||" + tc.kind + "|1|P|2.5\r")
			if a := b.send(t, msg); a.Code != tc.code {
				t.Errorf("%s: %+v", tc.kind, a)
			}
			for q := range strings.FieldsSeq(tc.queues) {
				total[q]++
			}
			for _, st := range b.queue.Stats() {
				if st.Queued != total[st.Queue] {
					t.Errorf("%s for %s: %d in %s, want %d", tc.kind, tc.receiver, st.Queued, st.Queue, total[st.Queue])
				}
			}
		}
		if len(b.far.received()) != 1 {
			t.Errorf("%d were passed through", len(b.far.received()))
		}
	})
}

// TestAllCopiesOrNone fills the storage between two copies of a message; the sender repeats it later, and each destination gets one.
func TestAllCopiesOrNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full := true
		dir := t.TempDir()
		ledger := openLedger(t, dir, hl7.LedgerOptions{})
		b := newBoxOf(t, &far{}, spool.Options{}, func(b *box) hl7.RouterConfig {
			return hl7.RouterConfig{Ledger: ledger, Queue: &fullFor{Queue: b.queue, name: "copy", full: &full}, Routes: []hl7.Route{
				{Service: "main", Mode: hl7.Queued, QueueName: "main"}, {Service: "copy", Mode: hl7.Queued, Copy: true, QueueName: "copy"},
			}}
		})
		if a := b.send(t, order("1", "X")); a.Code != hl7.AE {
			t.Errorf("half stored: %+v", a)
		}
		full = false
		if a := b.send(t, order("1", "X")); a.Code != hl7.AA {
			t.Errorf("repeated: %+v", a)
		}
		for _, st := range b.queue.Stats() {
			if st.Queued != 1 {
				t.Errorf("%+v", st)
			}
		}
	})
}

// fullFor is a queue that is full for one destination.
type fullFor struct {
	spool.Queue
	name string
	full *bool
}

func (q *fullFor) Create(m spool.Meta) (spool.Writer, error) {
	if *q.full && m.Queue == q.name {
		return nil, spool.ErrFull
	}
	return q.Queue.Create(m)
}

// TestBatchStaysWhole sends a batch in both modes.
func TestBatchStaysWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, &far{})
		b.deliver(t)
		for i, receiver := range []string{"QUEUED", "CARDIO"} {
			var batch []byte
			batch = append(batch, "FHS|^~\\&|A|B\rBHS|^~\\&|A|B\r"...)
			for k := range 3 {
				batch = append(batch, order(fmt.Sprintf("B-%d", k), receiver)...)
			}
			batch = append(batch, "BTS|3\rFTS|1\r"...)
			if a := b.send(t, batch); a.Code != hl7.AA || a.ControlID != "B-0" {
				t.Errorf("%s: %+v", receiver, a)
			}
			synctest.Wait()
			if got := b.far.received(); len(got) != i+1 || string(got[i]) != string(batch) {
				t.Errorf("%s: the receiver got %d messages", receiver, len(got))
			}
		}
	})
}
