package hl7_test

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"strings"
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
			{"CARDIO", "CENTER", "both"},
			{"CARDIO", "", "app"},
			{"CARDIO", "ELSEWHERE", "app"},
			{"CARDIO^1.2.3^ISO", "CENTER^4.5^ISO", "both"},
			{" CARDIO ", "CENTER", "both"},
			{"RADIO", "NORTH", "north"},
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
		got := l.Item().Meta.Attributes
		if len(got[hl7.AttrKey]) != 32 {
			t.Errorf("key %q", got[hl7.AttrKey])
		}
		delete(got, hl7.AttrKey)
		if fmt.Sprint(got) != fmt.Sprint(want) {
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
