package hl7_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/towpath/towpath/proxy/hl7"
	"github.com/towpath/towpath/proxy/proxytest"
	"github.com/towpath/towpath/proxy/spool"
)

// A receiver that is away is told from one that refuses a message: its queue then looks for it more often.
func TestUnreachableIsNoRefusal(t *testing.T) {
	msg := order("1", "X")
	sink := hl7.NewSink(hl7.SinkConfig{Network: proxytest.NewNetwork(), Target: farAddress})
	defer sink.Idle()
	_, err := sink.Deliver(t.Context(), spool.Item{ID: "1", Size: int64(len(msg))}, bytes.NewReader(msg))
	if _, is := errors.AsType[*spool.UnreachableError](err); !is || !errors.Is(err, hl7.ErrUnreachable) {
		t.Errorf("%T: %v", err, err)
	}
	r := newReceiver(t, &far{answer: func(_ int, m []byte) []byte { return ackFor(m, hl7.AE) }})
	_, err = r.deliver(t.Context(), msg)
	if _, is := errors.AsType[*spool.UnreachableError](err); err == nil || is {
		t.Errorf("%T: %v", err, err)
	}
}
