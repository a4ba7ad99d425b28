package hl7_test

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/hl7"
)

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
