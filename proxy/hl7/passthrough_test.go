package hl7_test

import (
	"bytes"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/hl7"
	"github.com/towpath/towpath/proxy/proxytest"
)

// TestPassThroughRelays answers in every way a receiver may, byte by byte.
func TestPassThroughRelays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reply []byte
		f := &far{answer: func(int, []byte) []byte { return reply }}
		b := newBox(t, f)
		n := b.dial(t)
		for i, tc := range []string{
			"MSA|AA|%s|gr\xfc\xdfe", "MSA|AE|%s|Patient unknown\rERR|||204", "MSA|AR|%s", "MSA|CR|%s|x\n", "MSA|CE|%s\r\x1cbinary\x1c",
			"MSA|AA|%s\rQAK|1|OK\rPID|1||" + strings.Repeat("9", 500_000),
		} {
			id := fmt.Sprint("id-", i)
			reply = []byte("MSH|^~\\&|X|Y|PRAXIS|WEST|||RSP^K11|" + fmt.Sprint(i) + "|P|2.5.1\r" + fmt.Sprintf(tc, id))
			msg := order(id, "CARDIO")
			n.say(msg)
			if got := n.hear(); !bytes.Equal(got, reply) {
				t.Fatalf("heard %.200q, want %.200q", got, reply)
			}
			if got := f.received(); len(got) != i+1 || !bytes.Equal(got[i], msg) {
				t.Fatalf("%d: the far end got something else", i)
			}
		}
		_ = n.Close()
		if o := b.outcome(t); o != proxy.OutcomeDone {
			t.Errorf("outcome %s", o)
		}
	})
}

func TestPassThroughWithoutAnswer(t *testing.T) {
	ack := func(id string) []byte { return []byte("MSH|^~\\&|X|Y|||||ACK|1|P|2.5\rMSA|AA|" + id + "\r") }
	for name, tc := range map[string]struct {
		answer  func(n int, msg []byte) []byte
		outcome proxy.Outcome
		after   time.Duration
	}{
		"silence": {func(int, []byte) []byte { return []byte{} }, proxy.OutcomeTimeout, hl7.DefaultAckTimeout},
		"too late": {
			func(_ int, m []byte) []byte { time.Sleep(31 * time.Second); return ackFor(m, hl7.AA) }, proxy.OutcomeTimeout, hl7.DefaultAckTimeout,
		},
		"another message": {func(int, []byte) []byte { return ack("other") }, proxy.OutcomeMalformed, 0},
		"no answer":       {func(_ int, m []byte) []byte { return m }, proxy.OutcomeMalformed, 0},
		"no HL7":          {func(int, []byte) []byte { return []byte("hello") }, proxy.OutcomeMalformed, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBox(t, &far{answer: tc.answer})
				n := b.dial(t)
				began := time.Now()
				n.say(order("1", "CARDIO"))
				if got := n.hear(); got != nil {
					t.Fatalf("heard %q", got)
				}
				if took := time.Since(began); took != tc.after {
					t.Errorf("closed after %v", took)
				}
				if o := b.outcome(t); o != tc.outcome {
					t.Errorf("outcome %s", o)
				}
			})
		})
	}
}

// TestLateAnswerMeetsNobody is the fault that lost messages elsewhere: an answer that comes after the timeout is taken for the next
// message's.
func TestLateAnswerMeetsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, &far{answer: func(n int, msg []byte) []byte {
			if n == 1 {
				time.Sleep(40 * time.Second)
				return ackFor(msg, hl7.AA)
			}
			time.Sleep(20 * time.Second)
			return ackFor(msg, hl7.AR)
		}})
		first := b.dial(t)
		first.say(order("SAME-ID", "CARDIO"))
		if got := first.hear(); got != nil {
			t.Fatalf("heard %q", got)
		}
		second := b.dial(t)
		second.say(order("SAME-ID", "CARDIO"))
		if a := second.hearAck(); a.Code != hl7.AR {
			t.Fatalf("the second message got %+v", a)
		}
	})
}

func TestPassThroughEnhanced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, &far{answer: func(_ int, msg []byte) []byte {
			if !bytes.Contains(msg, []byte("|bad|")) {
				return []byte{}
			}
			return ackFor(msg, hl7.CE)
		}})
		n := b.dial(t)
		// No answer is wanted, none is waited for.
		began := time.Now()
		n.say(withModes(order("1", "CARDIO"), "NE", "NE"))
		n.say(withModes(order("2", "CARDIO"), "ER", "NE"))
		synctest.Wait()
		if got := b.far.received(); len(got) != 2 || time.Since(began) != 0 {
			t.Fatalf("%d messages after %v", len(got), time.Since(began))
		}
		// An error is relayed although it was not waited for.
		n.say(withModes(order("bad", "CARDIO"), "ER", "NE"))
		if a := n.hearAck(); a.Code != hl7.CE || a.ControlID != "bad" {
			t.Fatalf("%+v", a)
		}
	})
}

func TestSecondAnswer(t *testing.T) {
	twice := func(_ int, msg []byte) [][]byte { return [][]byte{ackFor(msg, hl7.CA), ackFor(msg, hl7.AE)} }
	t.Run("belongs to the enhanced mode", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			n := newBox(t, &far{answers: twice}).dial(t)
			n.say(withModes(order("1", "CARDIO"), "AL", "AL"))
			if a, b := n.hearAck(), n.hearAck(); a.Code != hl7.CA || b.Code != hl7.AE || b.ControlID != "1" {
				t.Fatalf("%+v, %+v", a, b)
			}
			n.say(withModes(order("2", "CARDIO"), "AL", "AL"))
			if a, b := n.hearAck(), n.hearAck(); a.Code != hl7.CA || b.Code != hl7.AE || b.ControlID != "2" {
				t.Fatalf("%+v, %+v", a, b)
			}
		})
	})
	t.Run("ends the original mode", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBox(t, &far{answers: twice})
			n := b.dial(t)
			n.say(order("1", "CARDIO"))
			if a := n.hearAck(); a.Code != hl7.CA {
				t.Fatalf("%+v", a)
			}
			if got := n.hear(); got != nil {
				t.Fatalf("heard a second answer %q", got)
			}
			if o := b.outcome(t); o != proxy.OutcomeMalformed {
				t.Errorf("outcome %s", o)
			}
		})
	})
}

func TestFarEndDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, &far{})
		b.net.SetDown(farAddress, syscall.EHOSTUNREACH)
		n := b.dial(t)
		n.say(order("1", "CARDIO"))
		if got := n.hear(); got != nil {
			t.Fatalf("heard %q", got)
		}
		if o := b.outcome(t); o != proxy.OutcomeUnreachable {
			t.Errorf("outcome %s", o)
		}
		b.net.SetDown(farAddress, nil)
		if a := b.send(t, order("1", "CARDIO")); a.Code != hl7.AA {
			t.Errorf("%+v", a)
		}
	})
}

// TestFarEndCloses has the far end close between messages, as many do when idle, and then within one.
func TestFarEndCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, &far{})
		cut := false
		b.net.OnDial(func(address string, c net.Conn) net.Conn {
			if address == farAddress && cut {
				return proxytest.Faulty(c, proxytest.Faults{CutRead: 10})
			}
			return c
		})
		n := b.dial(t)
		n.say(order("1", "CARDIO"))
		n.hearAck()
		b.far.hangUp()
		synctest.Wait()
		n.say(order("2", "CARDIO"))
		if a := n.hearAck(); a.ControlID != "2" {
			t.Fatalf("%+v", a)
		}
		b.far.hangUp()
		synctest.Wait()
		cut = true
		n.say(order("3", "CARDIO"))
		if got := n.hear(); got != nil {
			t.Fatalf("heard %q", got)
		}
		if o := b.outcome(t); o != proxy.OutcomeAborted {
			t.Errorf("outcome %s", o)
		}
	})
}
