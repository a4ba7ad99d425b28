package ul_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/proxy/dicom/pdu"
	"github.com/towpath/towpath/proxy/dicom/ul"
	"github.com/towpath/towpath/proxy/proxytest"
)

// encodedAC accepts the first context of proposal.
func encodedAC(t *testing.T) []byte {
	t.Helper()
	b, err := (&pdu.AssociateAC{
		ProtocolVersion: 1, ApplicationContext: pdu.ApplicationContext,
		Contexts: []pdu.AcceptedContext{{ID: 1, TransferSyntax: syntax}, {ID: 3, Result: pdu.ContextAbstractSyntax, TransferSyntax: syntax}},
	}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// situation brings one end of an association into a state, with us as its peer on the wire. What the end writes on the way has been
// read. It returns what the end does next.
type situation struct {
	state ul.State
	role  ul.Role
	enter func(t *testing.T, near *proxytest.Conn, far *proxytest.Conn) func() error
}

func readPDU(t *testing.T, r *pdu.Reader, want pdu.Type) {
	t.Helper()
	h, err := r.Next()
	if err != nil || h.Type != want {
		t.Fatalf("it sends %s, %v instead of %s", h.Type, err, want)
	}
	if _, err := r.Whole(); err != nil {
		t.Fatal(err)
	}
}

func situations() []situation {
	config := ul.Config{Close: time.Second}
	asRequestor := func(t *testing.T, near, far *proxytest.Conn) *ul.Association {
		t.Helper()
		_, _ = near.Write(encodedAC(t))
		a, err := ul.Request(context.Background(), far, proposal(), config)
		if err != nil {
			t.Fatal(err)
		}
		readPDU(t, pdu.NewReader(near, pdu.Limits{}), pdu.TypeAssociateRQ)
		return a
	}
	asAcceptor := func(t *testing.T, near, far *proxytest.Conn) *ul.Association {
		t.Helper()
		_, _ = near.Write(encodedRQ(t))
		in, err := ul.Receive(context.Background(), far, config)
		if err != nil {
			t.Fatal(err)
		}
		a, err := in.Accept(context.Background(), accept(in))
		if err != nil {
			t.Fatal(err)
		}
		readPDU(t, pdu.NewReader(near, pdu.Limits{}), pdu.TypeAssociateAC)
		return a
	}
	receive := func(a *ul.Association) func() error {
		return func() error {
			_, _, err := a.Receive(context.Background())
			return err
		}
	}
	// leaving has the end ask for release before the peer's next PDU is there.
	leaving := func(t *testing.T, a *ul.Association, near *proxytest.Conn, collide bool) func() error {
		t.Helper()
		done := make(chan error, 1)
		go func() { done <- a.Release(context.Background()) }()
		readPDU(t, pdu.NewReader(near, pdu.Limits{}), pdu.TypeReleaseRQ)
		if collide {
			_, _ = near.Write(pdu.EncodeReleaseRQ())
		}
		return func() error { return <-done }
	}
	return []situation{
		{ul.Sta2, ul.Acceptor, func(_ *testing.T, _, far *proxytest.Conn) func() error {
			return func() error {
				_, err := ul.Receive(context.Background(), far, config)
				return err
			}
		}},
		{ul.Sta5, ul.Requestor, func(t *testing.T, near, far *proxytest.Conn) func() error {
			done := make(chan error, 1)
			go func() {
				_, err := ul.Request(context.Background(), far, proposal(), config)
				done <- err
			}()
			readPDU(t, pdu.NewReader(near, pdu.Limits{}), pdu.TypeAssociateRQ)
			return func() error { return <-done }
		}},
		{ul.Sta6, ul.Requestor, func(t *testing.T, near, far *proxytest.Conn) func() error { return receive(asRequestor(t, near, far)) }},
		{ul.Sta6, ul.Acceptor, func(t *testing.T, near, far *proxytest.Conn) func() error { return receive(asAcceptor(t, near, far)) }},
		{ul.Sta7, ul.Requestor, func(t *testing.T, near, far *proxytest.Conn) func() error {
			return leaving(t, asRequestor(t, near, far), near, false)
		}},
		{ul.Sta7, ul.Acceptor, func(t *testing.T, near, far *proxytest.Conn) func() error {
			return leaving(t, asAcceptor(t, near, far), near, false)
		}},
		{ul.Sta10, ul.Acceptor, func(t *testing.T, near, far *proxytest.Conn) func() error {
			return leaving(t, asAcceptor(t, near, far), near, true)
		}},
		{ul.Sta11, ul.Requestor, func(t *testing.T, near, far *proxytest.Conn) func() error {
			end := leaving(t, asRequestor(t, near, far), near, true)
			readPDU(t, pdu.NewReader(near, pdu.Limits{}), pdu.TypeReleaseRP)
			return end
		}},
		{ul.Sta13, ul.Acceptor, func(t *testing.T, near, far *proxytest.Conn) func() error {
			_, _ = near.Write(encodedRQ(t))
			in, err := ul.Receive(context.Background(), far, config)
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- in.Reject(context.Background(), pdu.AssociateRJ{Result: 1, Source: 1, Reason: 1}) }()
			readPDU(t, pdu.NewReader(near, pdu.Limits{}), pdu.TypeAssociateRJ)
			return func() error { return <-done }
		}},
	}
}

// TestEveryCellOnTheWire brings each end into each state in which it reads and sends it each PDU, something that is none, and the end
// of the connection: what comes back must be what the table's action says, and the caller must hear what has happened.
func TestEveryCellOnTheWire(t *testing.T) {
	ac, rj := encodedAC(t), pdu.AssociateRJ{Result: 1, Source: 1, Reason: 3}.Encode()
	arrivals := []struct {
		event ul.Event
		bytes []byte
	}{
		{ul.EvtAcceptPDU, ac},
		{ul.EvtRejectPDU, rj},
		{ul.EvtRequestPDU, encodedRQ(t)},
		{ul.EvtDataPDU, fragment(1, true, true, "xx")},
		{ul.EvtReleaseRQPDU, pdu.EncodeReleaseRQ()},
		{ul.EvtReleaseRPPDU, pdu.EncodeReleaseRP()},
		{ul.EvtAbortPDU, pdu.Abort{Source: pdu.AbortUser}.Encode()},
		{ul.EvtInvalidPDU, []byte{9, 0, 0, 0, 0, 2, 0, 0}},
		{ul.EvtClosed, nil},
	}
	for _, s := range situations() {
		for _, arrival := range arrivals {
			synctest.Test(t, func(t *testing.T) {
				near, far := pipe()
				defer func() { _ = near.Close() }()
				end := s.enter(t, near, far)
				cell, ok := ul.Step(s.state, arrival.event, s.role)
				if !ok {
					t.Fatalf("no cell for event %d in %s", arrival.event, s.state)
				}
				_, _ = near.Write(arrival.bytes)
				_ = near.CloseWrite() // whatever it waits for after its answer does not come
				err := end()
				_ = far.Close()
				back, readErr := io.ReadAll(near)
				if readErr != nil {
					t.Fatal(readErr)
				}
				checkCell(t, s, arrival.event, cell, back, err)
			})
		}
	}
}

func checkCell(t *testing.T, s situation, event ul.Event, cell ul.Cell, back []byte, err error) {
	t.Helper()
	abort := func(r pdu.Reason) []byte { return pdu.Abort{Source: pdu.AbortProvider, Reason: r}.Encode() }
	var want []byte
	var wantErr any
	switch cell.Action {
	case ul.AA1, ul.AA8:
		want, wantErr = abort(pdu.ReasonUnexpectedPDU), new(*ul.ProtocolError)
		if event == ul.EvtInvalidPDU {
			want = abort(pdu.ReasonUnrecognizedPDU)
		}
	case ul.AA2, ul.AA3:
		wantErr = new(*ul.AbortedError)
	case ul.AA4, ul.AA5:
		wantErr = ul.ErrLost
	case ul.AE4:
		wantErr = new(*ul.RejectedError)
	case ul.AR2:
		want, wantErr = pdu.EncodeReleaseRP(), ul.ErrReleased
	case ul.AR6:
		wantErr = ul.ErrLost // the data is dropped, and the confirmation does not come
	case ul.AR8:
		wantErr = ul.ErrLost // the collision's last confirmation does not come
		if s.role == ul.Requestor {
			want = pdu.EncodeReleaseRP()
		}
	case ul.AR10:
		want = pdu.EncodeReleaseRP()
	default:
	}
	if s.state == ul.Sta13 {
		want, wantErr = nil, nil // all has been said: what still comes is read and dropped (AA-6; AA-7 and AR-5 look the same to the peer)
	}
	if !bytes.Equal(back, want) {
		t.Errorf("event %d in %s (%s): it answers %x instead of %x", event, s.state, cell.Action, back, want)
	}
	switch target := wantErr.(type) {
	case nil:
		if err != nil {
			t.Errorf("event %d in %s (%s): %v", event, s.state, cell.Action, err)
		}
	case error:
		if !errors.Is(err, target) {
			t.Errorf("event %d in %s (%s): %v instead of %v", event, s.state, cell.Action, err, target)
		}
	default:
		if !errors.As(err, target) {
			t.Errorf("event %d in %s (%s): %v instead of %T", event, s.state, cell.Action, err, target)
		}
	}
}
