package hl7_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/hl7"
	"github.com/towpath/towpath/proxy/hl7/mllp"
	"github.com/towpath/towpath/proxy/proxytest"
	"github.com/towpath/towpath/proxy/spool"
)

func order(id, receiver string) []byte { return hl7.SampleOrder(time.Now(), id, parties(receiver)) }

// withModes fills MSH-15 and MSH-16.
func withModes(msg []byte, accept, application string) []byte {
	return bytes.Replace(msg, []byte("|2.5.1|||||"), []byte("|2.5.1|||"+accept+"|"+application+"|"), 1)
}

func TestRoutesAreChecked(t *testing.T) {
	n := proxytest.NewNetwork()
	for name, routes := range map[string][]hl7.Route{
		"no mode":            {{Receiver: "A"}},
		"no queue":           {{Mode: hl7.Queued, QueueName: "q"}},
		"no target":          {{Mode: hl7.PassThrough, Network: n}},
		"one receiver twice": {{Mode: hl7.PassThrough, Network: n, Target: "x"}, {Mode: hl7.PassThrough, Network: n, Target: "y"}},
	} {
		if _, err := hl7.NewRouter(hl7.RouterConfig{Routes: routes}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestRouting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoxWith(t, &far{}, spool.Options{}, func(proxy.Network) []hl7.Route {
			return []hl7.Route{
				{Mode: hl7.Queued, Receiver: "CARDIO", QueueName: "app"},
				{Mode: hl7.Queued, Receiver: "CARDIO^CENTER", QueueName: "both"},
				{Mode: hl7.Queued, Receiver: "RADIO^NORTH", QueueName: "north"},
			}
		})
		to := func(app, facility string) hl7.Ack {
			p := parties(app)
			p.ReceivingFacility = facility
			return b.send(t, hl7.SampleOrder(time.Now(), "1", p))
		}
		for _, tc := range []struct{ app, facility, queue string }{
			{"CARDIO", "CENTER", "both"}, {"CARDIO", "", "app"}, {"CARDIO", "ELSEWHERE", "app"}, {"CARDIO^1.2.3^ISO", "CENTER^4.5^ISO", "both"},
			{" CARDIO ", "CENTER", "both"}, {"RADIO", "NORTH", "north"},
		} {
			before := map[string]int{}
			for _, st := range b.queue.Stats() {
				before[st.Queue] = st.Queued
			}
			if a := to(tc.app, tc.facility); a.Code != hl7.AA {
				t.Errorf("%v: %+v", tc, a)
			}
			for _, st := range b.queue.Stats() {
				if (st.Queued > before[st.Queue]) != (st.Queue == tc.queue) {
					t.Errorf("%v: went into %s", tc, st.Queue)
				}
			}
		}
		for _, tc := range []struct{ app, facility, text string }{
			{"RADIO", "SOUTH", "no route for receiver RADIO^SOUTH"},
			{"cardio", "X", "CARDIO is: check upper and lower case"},
			{"Radio", "north", "RADIO\\S\\NORTH is: check upper and lower case"},
			{"", "", "MSH-5 (receiving application) is empty"},
			{"M\xfcller", "", "no route for receiver M?ller"},
		} {
			a := to(tc.app, tc.facility)
			if text := strings.ReplaceAll(a.Text, `\S\`, "^"); a.Code != hl7.AR || !strings.Contains(text, strings.ReplaceAll(tc.text, `\S\`, "^")) {
				t.Errorf("%v: %s %q", tc, a.Code, a.Text)
			}
		}
		if a := b.send(t, withModes(order("1", "NOBODY"), "AL", "NE")); a.Code != hl7.CR {
			t.Errorf("in the enhanced mode: %s", a.Code)
		}
	})
}

func TestQueuedRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoxWith(t, &far{}, spool.Options{MaxBytes: 3000}, bothModes)
		n := b.dial(t)
		for _, tc := range []struct {
			msg  []byte
			code hl7.Code
			text string
		}{
			{order("1", "QUEUED"), hl7.AA, "stored"},
			{withModes(order("2", "QUEUED"), "AL", "NE"), hl7.CA, "stored"},
			{order("", "QUEUED"), hl7.AR, "MSH-10"},
			{bytes.Replace(order("3", "QUEUED"), []byte("ORM^O01^ORM_O01"), nil, 1), hl7.AR, "MSH-9"},
			{append(order("4", "QUEUED"), make([]byte, 4000)...), hl7.AE, "storage is full"},
			{append(withModes(order("5", "QUEUED"), "ER", "NE"), make([]byte, 4000)...), hl7.CE, "storage is full"},
		} {
			n.say(tc.msg)
			if a := n.hearAck(); a.Code != tc.code || !strings.Contains(a.Text, tc.text) {
				t.Errorf("%+v, want %s with %q", a, tc.code, tc.text)
			}
		}
		// A sender that wants to hear nothing must not believe that all is well.
		n.say(append(withModes(order("6", "QUEUED"), "NE", "NE"), make([]byte, 4000)...))
		if got := n.hear(); got != nil {
			t.Errorf("heard %q", got)
		}
		if o := b.outcome(t); o != proxy.OutcomeRefused {
			t.Errorf("outcome %s", o)
		}
		if tot := b.server.Totals(); tot.Items != 2 {
			t.Errorf("%d items", tot.Items)
		}
		l, err := b.queue.Next(t.Context(), "results")
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]string{
			hl7.AttrControlID: "1", hl7.AttrType: "ORM^O01", hl7.AttrSender: "PRAXIS^WEST", hl7.AttrReceiver: "QUEUED^CENTER",
		}
		if got := l.Item().Meta.Attributes; fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("attributes %v", got)
		}
	})
}

func TestAcknowledgmentsAreNotAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, receiver := range []string{"QUEUED", "CARDIO"} {
			b := newBox(t, &far{})
			n := b.dial(t)
			n.say([]byte("MSH|^~\\&|A|B|" + receiver + "|D|||ACK^O01^ACK|1|P|2.5|||AL|AL\rMSA|AA|77\r"))
			n.say(order("2", receiver))
			if a := n.hearAck(); a.ControlID != "2" {
				t.Errorf("an acknowledgment was acknowledged: %+v", a)
			}
			if got := b.far.received(); len(got) > 1 {
				t.Errorf("an acknowledgment was forwarded: %q", got)
			}
		}
	})
}

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
		"silence":         {func(int, []byte) []byte { return []byte{} }, proxy.OutcomeTimeout, hl7.DefaultAckTimeout},
		"too late":        {func(_ int, m []byte) []byte { time.Sleep(31 * time.Second); return ackFor(m, hl7.AA) }, proxy.OutcomeTimeout, 30 * time.Second},
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

func TestHostileSenders(t *testing.T) {
	framed := string([]byte{0x0b}) + string(order("1", "QUEUED"))
	for name, tc := range map[string]struct {
		do      func(n *near)
		outcome proxy.Outcome
		within  time.Duration
	}{
		"HTTP":           {func(n *near) { _, _ = n.Write([]byte("\x0bGET / HTTP/1.1\r\n\r\n\x1c\r")) }, proxy.OutcomeMalformed, 0},
		"UTF-16":         {func(n *near) { n.say([]byte("\xff\xfeM\x00S\x00H\x00|\x00")) }, proxy.OutcomeMalformed, 0},
		"no start block": {func(n *near) { _, _ = n.Write(bytes.Repeat([]byte("MSH|"), 2000)) }, proxy.OutcomeMalformed, 0},
		"too long": {func(n *near) {
			_, _ = n.Write([]byte{0x0b})
			for range 17 << 4 {
				if _, err := n.Write(bytes.Repeat([]byte("x"), 64<<10)); err != nil {
					return
				}
			}
		}, proxy.OutcomeMalformed, 0},
		"stops within":      {func(n *near) { _, _ = n.Write([]byte(framed)) }, proxy.OutcomeTimeout, hl7.DefaultProgress},
		"closes within":     {func(n *near) { _, _ = n.Write([]byte(framed)); _ = n.Close() }, proxy.OutcomeAborted, 0},
		"idle for long":     {func(*near) {}, proxy.OutcomeDone, hl7.DefaultIdle},
		"closes at once":    {func(n *near) { _ = n.Close() }, proxy.OutcomeDone, 0},
		"drips a message":   {func(n *near) { drip(n, []byte(framed), 20*time.Second) }, proxy.OutcomeTimeout, 41 * time.Second},
		"does not read":     {func(n *near) { flood(n, order("1", "NOBODY")) }, proxy.OutcomeAborted, time.Minute},
		"unfinished header": {func(n *near) { n.say([]byte("MSH")) }, proxy.OutcomeMalformed, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBox(t, &far{})
				n := b.dial(t)
				began := time.Now()
				done := make(chan struct{})
				go func() { tc.do(n); close(done) }()
				synctest.Wait()
				for len(b.server.Sessions()) > 0 && time.Since(began) <= tc.within+2*time.Second {
					time.Sleep(500 * time.Millisecond)
					synctest.Wait()
				}
				if o := b.outcome(t); o != tc.outcome {
					t.Errorf("outcome %s after %v", o, time.Since(began))
				}
				_ = n.Close()
				<-done
				if st := b.queue.Stats(); len(st) > 0 && st[0].Queued > 0 {
					t.Errorf("something was stored: %+v", st)
				}
			})
		})
	}
}

func drip(n *near, b []byte, pause time.Duration) {
	for i := range b {
		if _, err := n.Write(b[i : i+1]); err != nil {
			return
		}
		time.Sleep(pause)
	}
}

// flood sends without ever reading the answers.
func flood(n *near, msg []byte) {
	frame := append(append([]byte{0x0b}, msg...), 0x1c, 0x0d)
	for {
		if _, err := n.Write(frame); err != nil {
			return
		}
	}
}

// TestShutdown waits for an answer that is under way.
func TestShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, &far{answer: func(_ int, msg []byte) []byte { time.Sleep(2 * time.Second); return ackFor(msg, hl7.AA) }})
		r, err := hl7.NewRouter(hl7.RouterConfig{Routes: bothModes(b.net), Queue: b.queue})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		client, server := proxytest.Pipe(netip.AddrPort{}, netip.AddrPort{})
		result := make(chan proxy.Result, 1)
		go func() { result <- r.Serve(ctx, server); _ = server.Close() }()
		n := &near{Conn: client, t: t, decoder: mllp.NewDecoder(0)}
		n.say(order("1", "CARDIO"))
		time.Sleep(time.Second)
		cancel()
		if a := n.hearAck(); a.Code != hl7.AA {
			t.Fatalf("%+v", a)
		}
		if res := <-result; res.Outcome != proxy.OutcomeDone || res.Items != 1 {
			t.Fatalf("%+v", res)
		}
	})
}

// TestNoPatientDataInLogs runs what goes wrong and looks for the canary in logs and results.
func TestNoPatientDataInLogs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const canary = "CANARY"
		f := &far{answer: func(n int, msg []byte) []byte {
			switch n % 4 {
			case 0:
				return []byte("MSH|^~\\&|X\rMSA|AE|CANARY-7|CANARY unknown\rERR|||CANARY\r")
			case 1:
				return []byte("CANARY")
			case 2:
				return []byte("MSH|^~\\&|X\rMSA|AA|CANARY-8\r")
			}
			return []byte("MSH|^~\\&|X\rMSA|AR|CANARY-7|CANARY\r")
		}}
		b := newBox(t, f)
		b.deliver(t)
		for _, receiver := range []string{"QUEUED", "CARDIO", "NOBODY"} {
			for range 6 {
				n := b.dial(t)
				n.say(bytes.ReplaceAll(order("CANARY-7", receiver), []byte("Jürgen"), []byte(canary)))
				time.Sleep(20 * time.Minute)
				_ = n.Close()
			}
		}
		n := b.dial(t)
		n.say([]byte("CANARY"))
		time.Sleep(time.Hour)
		if log := b.log.String(); strings.Contains(log, canary) || !strings.Contains(log, "refused for good") {
			t.Errorf("log:\n%s", log)
		}
		for _, st := range b.queue.Stats() {
			if strings.Contains(st.LastError, canary) {
				t.Error(st.LastError)
			}
		}
	})
}
