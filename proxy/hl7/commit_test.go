package hl7_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/hl7"
	"github.com/towpath/towpath/proxy/hl7/mllp"
	"github.com/towpath/towpath/proxy/spool"
)

// TestCommitAcknowledgmentsOfSenders hears what a sender of MLLP release 2 hears.
func TestCommitAcknowledgmentsOfSenders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoxWith(t, &far{}, spool.Options{MaxBytes: 3000}, func(n proxy.Network) []hl7.Route {
			return []hl7.Route{
				{Service: "results", Mode: hl7.Queued, QueueName: "results", Receiver: "QUEUED", CommitSender: true},
				{Service: "orders", Mode: hl7.PassThrough, Network: n, Target: farAddress, CommitSender: true},
				{Service: "old", Mode: hl7.Queued, QueueName: "old", Receiver: "OLD"},
			}
		})
		n := b.dial(t)
		for _, tc := range []struct {
			msg    []byte
			commit byte // 0 for none
			code   hl7.Code
		}{
			{order("1", "QUEUED"), mllp.Committed, hl7.AA},
			{order("2", "CARDIO"), mllp.Committed, hl7.AA},
			{order("3", "OLD"), 0, hl7.AA},
			{append(order("4", "QUEUED"), make([]byte, 4000)...), mllp.NotCommitted, hl7.AE},
			{withModes(order("5", "QUEUED"), "NE", "NE"), mllp.Committed, ""},
			{withModes(order("6", "CARDIO"), "AL", "NE"), mllp.Committed, hl7.AA},
		} {
			n.say(tc.msg)
			if tc.commit != 0 {
				if got := n.hear(); len(got) != 1 || got[0] != tc.commit {
					t.Fatalf("heard %q, want %q", got, tc.commit)
				}
			}
			if tc.code == "" {
				continue
			}
			if a := n.hearAck(); a.Code != tc.code {
				t.Fatalf("%+v, want %s", a, tc.code)
			}
			n.say([]byte{mllp.Committed}) // our answer is confirmed in turn
		}
	})
}

// release2 is a receiver that confirms storage first and wants its answers confirmed.
func release2(commit byte, heard *[]byte) *far {
	return &far{answers: func(_ int, msg []byte) [][]byte {
		if committed, is := mllp.IsCommit(msg); is {
			*heard = append(*heard, msg[0])
			_ = committed
			return nil
		}
		if commit == mllp.NotCommitted {
			return [][]byte{{commit}}
		}
		time.Sleep(time.Second)
		return [][]byte{{commit}, ackFor(msg, hl7.AA)}
	}}
}

func TestCommitAcknowledgmentsOfReceivers(t *testing.T) {
	for _, commit := range []byte{mllp.Committed, mllp.NotCommitted} {
		synctest.Test(t, func(t *testing.T) {
			var heard []byte
			f := release2(commit, &heard)
			b := newBoxWith(t, f, spool.Options{}, func(n proxy.Network) []hl7.Route {
				return []hl7.Route{{Service: "orders", Mode: hl7.PassThrough, Network: n, Target: farAddress, CommitTarget: true}}
			})
			cfg := hl7.SendConfig{Network: b.net, Target: farAddress, Commit: true, AckTimeout: 5 * time.Second}
			for _, msg := range [][]byte{order("1", "X"), withModes(order("2", "X"), "AL", "NE")} {
				a, err := hl7.Send(t.Context(), cfg, msg)
				if ok := err == nil && a.Code == hl7.AA; ok != (commit == mllp.Committed) {
					t.Errorf("straight: %+v, %v", a, err)
				}
			}
			// With MSH-15 and 16 NE, the commit acknowledgment is all there is.
			a, err := hl7.Send(t.Context(), cfg, withModes(order("3", "X"), "NE", "NE"))
			if (err == nil) != (commit == mllp.Committed) {
				t.Errorf("without answer: %+v, %v", a, err)
			}
			through := hl7.SendConfig{Network: b.net, Target: nearAddress, AckTimeout: 5 * time.Second}
			a, err = hl7.Send(t.Context(), through, order("4", "X"))
			if ok := err == nil && a.Code == hl7.AA; ok != (commit == mllp.Committed) {
				t.Errorf("through the gateway: %+v, %v", a, err)
			}
			synctest.Wait()
			if commit == mllp.Committed && string(heard) != "\x06\x06\x06" {
				t.Errorf("the receiver's answers were confirmed with %q", heard)
			}
		})
	}
}
