package hl7_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/proxy/hl7"
	"github.com/towpath/towpath/proxy/proxytest"
	"github.com/towpath/towpath/proxy/spool"
)

// receiver is a far end and a Sink towards it.
type receiver struct {
	net   *proxytest.Network
	far   *far
	sink  spool.Sink
	log   *syncBuffer
	dials int
}

func newReceiver(t *testing.T, f *far) *receiver {
	t.Helper()
	r := &receiver{net: proxytest.NewNetwork(), far: f, log: &syncBuffer{}}
	serve(t, r.net, farAddress, f)
	r.net.OnDial(func(_ string, c net.Conn) net.Conn { r.dials++; return c })
	r.sink = hl7.NewSink(hl7.SinkConfig{Network: r.net, Target: farAddress, Log: r.log.logger()})
	t.Cleanup(r.sink.Idle)
	return r
}

func (r *receiver) deliver(ctx context.Context, msg []byte) (spool.Receipt, error) {
	return r.sink.Deliver(ctx, spool.Item{ID: "1", Size: int64(len(msg))}, bytes.NewReader(msg))
}

func TestSinkReadsAnswers(t *testing.T) {
	for name, tc := range map[string]struct {
		answer    func(n int, msg []byte) []byte
		msg       []byte
		code      string // of the receipt
		refusal   hl7.Code
		permanent bool
		took      time.Duration
	}{
		"AA":        {msg: order("1", "X"), code: "AA"},
		"CA":        {answer: func(_ int, m []byte) []byte { return ackFor(m, hl7.CA) }, msg: order("1", "X"), code: "CA"},
		"AE":        {answer: func(_ int, m []byte) []byte { return ackFor(m, hl7.AE) }, msg: order("1", "X"), refusal: hl7.AE},
		"CE":        {answer: func(_ int, m []byte) []byte { return ackFor(m, hl7.CE) }, msg: order("1", "X"), refusal: hl7.CE},
		"AR":        {answer: func(_ int, m []byte) []byte { return ackFor(m, hl7.AR) }, msg: order("1", "X"), refusal: hl7.AR, permanent: true},
		"CR":        {answer: func(_ int, m []byte) []byte { return ackFor(m, hl7.CR) }, msg: order("1", "X"), refusal: hl7.CR, permanent: true},
		"not HL7":   {msg: []byte("hello"), permanent: true},
		"too large": {msg: make([]byte, 17<<20), permanent: true},
		"silence": {
			answer: func(int, []byte) []byte { return []byte{} }, msg: order("1", "X"), took: hl7.DefaultAckTimeout,
		},
		"too late": {
			answer: func(_ int, m []byte) []byte { time.Sleep(31 * time.Second); return ackFor(m, hl7.AR) }, msg: order("1", "X"),
			took: hl7.DefaultAckTimeout,
		},
		"silence as wished": {
			answer: func(int, []byte) []byte { return []byte{} }, msg: withModes(order("1", "X"), "NE", "NE"), code: "none", took: time.Second,
		},
		"error only": {
			answer: func(_ int, m []byte) []byte { return ackFor(m, hl7.CR) }, msg: withModes(order("1", "X"), "ER", "NE"),
			refusal: hl7.CR, permanent: true,
		},
		"other ID": {answer: func(int, []byte) []byte { return []byte("MSH|^~\\&|X\rMSA|AA|other\r") }, msg: order("1", "X")},
		"no ack":   {answer: func(_ int, m []byte) []byte { return m }, msg: order("1", "X")},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newReceiver(t, &far{answer: tc.answer})
				began := time.Now()
				receipt, err := r.deliver(t.Context(), tc.msg)
				if took := time.Since(began); took != tc.took {
					t.Errorf("took %v", took)
				}
				if ok := tc.code != ""; ok != (err == nil) || ok && tc.code != "none" && (receipt.Code != tc.code || receipt.Peer != "X^CENTER") {
					t.Errorf("receipt %+v, error %v", receipt, err)
				}
				if _, permanent := errors.AsType[*spool.PermanentError](err); permanent != tc.permanent {
					t.Errorf("error %v, permanent %v", err, permanent)
				}
				refused, is := errors.AsType[*hl7.RefusedError](err)
				if is != (tc.refusal != "") || is && (refused.Code != tc.refusal || strings.Contains(err.Error(), "said the far end")) {
					t.Errorf("error %v", err)
				}
				// Whatever happened, the next message gets its own answer.
				r.far.mu.Lock()
				r.far.answer = nil
				r.far.mu.Unlock()
				if receipt, err := r.deliver(t.Context(), order("2", "X")); err != nil || receipt.Code != "AA" {
					t.Errorf("the next message: %+v, %v", receipt, err)
				}
			})
		})
	}
}

func TestSinkKeepsItsConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReceiver(t, &far{})
		send := func(id string) {
			t.Helper()
			if _, err := r.deliver(t.Context(), order(id, "X")); err != nil {
				t.Fatal(err)
			}
		}
		send("1")
		send("2")
		time.Sleep(time.Minute)
		send("3")
		if r.dials != 1 {
			t.Fatalf("%d connections for three messages", r.dials)
		}
		r.far.hangUp()
		time.Sleep(time.Minute)
		send("4") // must not fail although the receiver has closed
		if r.dials != 2 {
			t.Fatalf("%d connections", r.dials)
		}
		r.sink.Idle()
		synctest.Wait()
		send("5")
		if r.dials != 3 {
			t.Fatalf("%d connections", r.dials)
		}
	})
}

// TestSinkLateApplicationAck has the application refuse what was accepted before, while the next message waits for its own answer.
func TestSinkLateApplicationAck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var first []byte
		r := newReceiver(t, &far{answers: func(n int, msg []byte) [][]byte {
			if n == 1 {
				first = msg
				return [][]byte{ackFor(msg, hl7.CA)}
			}
			return [][]byte{ackFor(first, hl7.AE), ackFor(msg, hl7.CA)}
		}})
		for _, id := range []string{"1", "2"} {
			receipt, err := r.deliver(t.Context(), withModes(order(id, "X"), "AL", "AL"))
			if err != nil || receipt.Code != "CA" {
				t.Fatalf("%s: %+v, %v", id, receipt, err)
			}
		}
		if r.dials != 1 || !strings.Contains(r.log.String(), "refused it afterwards") {
			t.Errorf("%d connections, log:\n%s", r.dials, r.log)
		}
	})
}

func TestSinkStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answerAfter := 2 * time.Second
		r := newReceiver(t, &far{answer: func(_ int, msg []byte) []byte { time.Sleep(answerAfter); return ackFor(msg, hl7.AA) }})
		for _, tc := range []struct {
			answerAfter, took time.Duration
			ok                bool
		}{{2 * time.Second, 2 * time.Second, true}, {20 * time.Second, 4 * time.Second, false}} {
			answerAfter = tc.answerAfter
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			began := time.Now()
			_, err := r.deliver(ctx, order("1", "X"))
			if (err == nil) != tc.ok || time.Since(began) != tc.took || !tc.ok && !errors.Is(err, context.Canceled) {
				t.Errorf("answer after %v, shutdown after 1s: %v after %v", tc.answerAfter, err, time.Since(began))
			}
			time.Sleep(time.Minute)
		}
	})
}

// TestCutAnywhere cuts the line at every byte of an exchange through the queue. Each message arrives at least once, whole, in order, and
// only one whose answer was cut arrives twice.
func TestCutAnywhere(t *testing.T) {
	msgs := [][]byte{order("1", "QUEUED"), order("2", "QUEUED")}
	for cut := int64(1); cut < int64(len(msgs[0])+len(msgs[1])); cut += 7 {
		for _, f := range []proxytest.Faults{{CutWrite: cut}, {CutRead: cut}} {
			synctest.Test(t, func(t *testing.T) {
				b := newBox(t, &far{})
				dials := 0
				b.net.OnDial(func(address string, c net.Conn) net.Conn {
					if address != farAddress {
						return c
					}
					if dials++; dials == 1 {
						return proxytest.Faulty(c, f)
					}
					return c
				})
				for _, m := range msgs {
					if a := b.send(t, m); a.Code != hl7.AA {
						t.Fatalf("%+v", a)
					}
				}
				b.deliver(t)
				time.Sleep(time.Minute)
				synctest.Wait()
				got := b.far.received()
				for i := len(got) - 1; i > 0; i-- {
					if bytes.Equal(got[i], got[i-1]) && f.CutRead > 0 {
						got = append(got[:i:i], got[i+1:]...)
					}
				}
				if len(got) != 2 || !bytes.Equal(got[0], msgs[0]) || !bytes.Equal(got[1], msgs[1]) {
					t.Fatalf("%+v: the far end got %d messages", f, len(got))
				}
			})
		}
	}
}

func TestSend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := proxytest.NewNetwork()
		cfg := hl7.SendConfig{Network: n, Target: farAddress, AckTimeout: 5 * time.Second}
		if _, err := hl7.Send(t.Context(), cfg, order("1", "X")); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("nobody listens: %v", err)
		}
		serve(t, n, farAddress, &far{answer: func(_ int, m []byte) []byte { return ackFor(m, hl7.AR) }})
		if a, err := hl7.Send(t.Context(), cfg, order("1", "X")); err != nil || a.Code != hl7.AR || a.Text != "said the far end" {
			t.Errorf("%+v, %v", a, err)
		}
		if _, err := hl7.Send(t.Context(), cfg, []byte("PID|")); !errors.Is(err, hl7.ErrNotHL7) {
			t.Errorf("not HL7: %v", err)
		}
		if _, err := hl7.Send(t.Context(), cfg, []byte("MSH|^~\\&|||||||ACK|1|\rMSA|AA|1\r")); err == nil {
			t.Error("an acknowledgment was sent")
		}
		if _, err := hl7.Send(t.Context(), cfg, append(order("1", "X"), 0x1c, 0x0d)); err == nil {
			t.Error("a message with an end of frame inside was sent")
		}
	})
}

func TestInbox(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "inbox")
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var got []hl7.Message
		open := func(limit int64) *hl7.Inbox {
			b, err := hl7.NewInbox(hl7.InboxConfig{Dir: dir, MaxBytes: limit, OnMessage: func(m hl7.Message) {
				mu.Lock()
				defer mu.Unlock()
				got = append(got, m)
			}})
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		n := proxytest.NewNetwork()
		serve(t, n, farAddress, open(0))
		cfg := hl7.SendConfig{Network: n, Target: farAddress}
		msgs := [][]byte{order("1", "X"), hl7.SampleResult(time.Now(), "2", parties("X")), withModes(order("3", "X"), "AL", "NE")}
		for i, msg := range msgs {
			a, err := hl7.Send(t.Context(), cfg, msg)
			if want := []hl7.Code{hl7.AA, hl7.AA, hl7.CA}[i]; err != nil || a.Code != want {
				t.Fatalf("%+v, %v", a, err)
			}
		}
		for i, m := range got {
			b, err := os.ReadFile(m.Path)
			if err != nil || !bytes.Equal(b, msgs[i]) || !bytes.Equal(m.Raw, b) || m.Header.ControlID() != string(rune('1'+i)) {
				t.Errorf("message %d: %v", i, err)
			}
			if i > 0 && m.Path <= got[i-1].Path {
				t.Errorf("%s sorts before %s", m.Path, got[i-1].Path)
			}
		}
		// A later Inbox knows what is there.
		if err := os.WriteFile(filepath.Join(dir, "broken.tmp"), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		full := open(int64(len(msgs[0])+len(msgs[1])+len(msgs[2])) + 100)
		serve(t, n, nearAddress, full)
		cfg.Target = nearAddress
		if a, err := hl7.Send(t.Context(), cfg, order("4", "X")); err != nil || a.Code != hl7.AE {
			t.Errorf("a full inbox: %+v, %v", a, err)
		}
		if _, err := os.Stat(filepath.Join(dir, "broken.tmp")); err == nil {
			t.Error("an incomplete file is still there")
		}
	})
}

func TestSamplesDeclareTheirCharset(t *testing.T) {
	at := time.Date(2026, 4, 8, 11, 0, 0, 0, time.UTC)
	for msg, want := range map[string][2]string{
		string(hl7.SampleOrder(at, "O-1", parties("X"))):  {"UNICODE UTF-8", "Käßmöhler"},
		string(hl7.SampleResult(at, "R-1", parties("X"))): {"8859/1", "K\xe4\xdfm\xf6hler"},
	} {
		h, err := hl7.ParseHeader([]byte(msg))
		if err != nil || h.Field(18) != want[0] || !strings.Contains(msg, want[1]) || h.Field(7) != "20260408110000" ||
			h.Sender() != "PRAXIS^WEST" || h.Receiver() != "X^CENTER" || !strings.HasSuffix(msg, "\r") || strings.Contains(msg, "\n") {
			t.Errorf("%q: %v", msg, err)
		}
	}
}
