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

func encodedRQ(t *testing.T) []byte {
	t.Helper()
	p := proposal()
	rq := &pdu.AssociateRQ{
		ProtocolVersion: 1, CalledAE: p.CalledAE, CallingAE: p.CallingAE,
		ApplicationContext: pdu.ApplicationContext, Contexts: p.Contexts,
	}
	b, err := rq.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// fragment is a P-DATA-TF with one PDV.
func fragment(id uint8, command, last bool, payload string) []byte {
	b := make([]byte, pdu.DataOverhead)
	pdu.PutDataHeader(b, pdu.PDV{ContextID: id, Command: command, Last: last, Length: uint32(len(payload))})
	return append(b, payload...)
}

// TestWrongPDUsAreAborted sends what must not be sent and reads the A-ABORT that PS3.8 table 9-26 has for it.
func TestWrongPDUsAreAborted(t *testing.T) {
	ac, err := (&pdu.AssociateAC{}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	rj := pdu.AssociateRJ{Result: 1, Source: 1, Reason: 1}.Encode()
	for _, tc := range []struct {
		name   string
		after  bool // association established
		send   []byte
		reason pdu.Reason
	}{
		{"AC before RQ", false, ac, pdu.ReasonUnexpectedPDU},
		{"RJ before RQ", false, rj, pdu.ReasonUnexpectedPDU},
		{"data before RQ", false, fragment(1, true, true, "xx"), pdu.ReasonUnexpectedPDU},
		{"release before RQ", false, pdu.EncodeReleaseRQ(), pdu.ReasonUnexpectedPDU},
		{"HTTP", false, []byte("GET / HTTP/1.1\r\n\r\n"), pdu.ReasonUnrecognizedPDU},
		{"TLS", false, []byte("\x16\x03\x01\x02\x00\x01\x00"), pdu.ReasonUnrecognizedPDU},
		{"RQ of 4 GiB", false, []byte("\x01\x00\xff\xff\xff\xff"), pdu.ReasonInvalidParameter},
		{"RQ of nonsense", false, append([]byte("\x01\x00\x00\x00\x00\x64"), make([]byte, 100)...), pdu.ReasonInvalidParameter},
		{"second RQ", true, encodedRQ(t), pdu.ReasonUnexpectedPDU},
		{"AC from the requestor", true, ac, pdu.ReasonUnexpectedPDU},
		{"release reply unasked", true, pdu.EncodeReleaseRP(), pdu.ReasonUnexpectedPDU},
		{"unknown PDU", true, []byte{9, 0, 0, 0, 0, 0}, pdu.ReasonUnrecognizedPDU},
		{"data of 4 GiB", true, []byte{4, 0, 0xFF, 0xFF, 0xFF, 0xFF}, pdu.ReasonInvalidParameter},
		{"PDV longer than its PDU", true, []byte{4, 0, 0, 0, 0, 6, 0, 0, 0, 9, 1, 3}, pdu.ReasonInvalidParameter},
		{"context that was refused", true, fragment(3, true, true, "xx"), pdu.ReasonUnexpectedPDU},
		{"context that was never offered", true, fragment(99, true, true, "xx"), pdu.ReasonUnexpectedPDU},
		{"data set without a command", true, fragment(1, false, true, "xx"), pdu.ReasonUnexpectedPDU},
		{"endless command", true, bytes.Repeat(fragment(1, true, false, string(make([]byte, 1000))), 20), pdu.ReasonUnexpectedPDU},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := pipe()
				done := make(chan error, 1)
				go func() {
					done <- serveOne(context.Background(), far, ul.Config{})
					_ = far.Close()
				}()
				r := pdu.NewReader(near, pdu.Limits{})
				if tc.after {
					establish(t, near, r)
				}
				go func() { _, _ = near.Write(tc.send) }()
				h, err := r.Next()
				if err != nil || h.Type != pdu.TypeAbort {
					t.Fatalf("answered with %s, %v", h.Type, err)
				}
				b, err := r.Whole()
				if err != nil {
					t.Fatal(err)
				}
				abort, err := pdu.DecodeAbort(b)
				if err != nil || abort.Source != pdu.AbortProvider || abort.Reason != tc.reason {
					t.Errorf("aborted with %s, %v instead of reason %d", abort, err, tc.reason)
				}
				_ = near.Close()
				if err := <-done; !errors.As(err, new(*ul.ProtocolError)) {
					t.Errorf("reported as %v", err)
				}
			})
		})
	}
}

// TestOtherProtocolVersion is the one request that the upper layer itself rejects (AE-6).
func TestOtherProtocolVersion(t *testing.T) {
	near, far := pipe()
	b := encodedRQ(t)
	b[7] = 2 // bit 0 is version 1
	if _, err := near.Write(b); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := ul.Receive(context.Background(), far, ul.Config{})
		done <- err
	}()
	got := make([]byte, 10)
	if _, err := io.ReadFull(near, got); err != nil {
		t.Fatal(err)
	}
	_ = near.Close()
	want := pdu.AssociateRJ{Result: pdu.RejectedPermanent, Source: pdu.SourceACSE, Reason: pdu.ACSEProtocolVersion}
	if rj, err := pdu.DecodeAssociateRJ(got); err != nil || rj != want {
		t.Errorf("answered with %v, %v", rj, err)
	}
	if err := <-done; !errors.As(err, new(*ul.ProtocolError)) {
		t.Errorf("reported as %v", err)
	}
}

// establish speaks the requestor's part of a negotiation by hand.
func establish(t *testing.T, near *proxytest.Conn, r *pdu.Reader) {
	t.Helper()
	if _, err := near.Write(encodedRQ(t)); err != nil {
		t.Fatal(err)
	}
	if h, err := r.Next(); err != nil || h.Type != pdu.TypeAssociateAC {
		t.Fatalf("answered with %s, %v", h.Type, err)
	}
	if _, err := r.Whole(); err != nil {
		t.Fatal(err)
	}
}

// serveOne accepts an association and reads one message with its data set.
func serveOne(ctx context.Context, conn *proxytest.Conn, cfg ul.Config) error {
	in, err := ul.Receive(ctx, conn, cfg)
	if err != nil {
		return err
	}
	a, err := in.Accept(ctx, accept(in))
	if err != nil {
		return err
	}
	id, _, err := a.Receive(ctx)
	if err != nil {
		return err
	}
	_, err = a.Data(ctx, id).WriteTo(io.Discard)
	return err
}

// TestSlowPeersAreLeft counts in fake time how long each kind of dawdler is tolerated.
func TestSlowPeersAreLeft(t *testing.T) {
	cfg := ul.Config{
		Associate: 30 * time.Second, Progress: time.Minute, MinProgress: 1000, Quiet: 10 * time.Minute, Close: 2 * time.Second,
	}
	drip := func(every time.Duration, b []byte) func(*testing.T, *proxytest.Conn) {
		return func(t *testing.T, c *proxytest.Conn) {
			for i := range b {
				time.Sleep(every) // fake time
				if _, err := c.Write(b[i : i+1]); err != nil {
					return
				}
			}
		}
	}
	for _, tc := range []struct {
		name     string
		after    bool
		peer     func(*testing.T, *proxytest.Conn)
		min, max time.Duration
	}{
		{"says nothing", false, func(*testing.T, *proxytest.Conn) {}, 30 * time.Second, 35 * time.Second},
		{"drips its request", false, drip(time.Second, encodedRQ(t)), 30 * time.Second, 35 * time.Second},
		{"says nothing after the accept", true, func(*testing.T, *proxytest.Conn) {}, 10 * time.Minute, 10*time.Minute + 5*time.Second},
		{"drips a data set", true, func(t *testing.T, c *proxytest.Conn) {
			_, _ = c.Write(fragment(1, true, true, "xx"))
			drip(time.Second, fragment(1, false, true, string(make([]byte, 5000))))(t, c)
		}, time.Minute, time.Minute + 5*time.Second},
		{"drips fragments", true, func(t *testing.T, c *proxytest.Conn) {
			_, _ = c.Write(fragment(1, true, true, "xx"))
			for range 1000 {
				time.Sleep(5 * time.Second) // fake time
				if _, err := c.Write(fragment(1, false, false, "yy")); err != nil {
					return
				}
			}
		}, time.Minute, time.Minute + 5*time.Second},
		{"stops in the middle", true, func(_ *testing.T, c *proxytest.Conn) {
			_, _ = c.Write(fragment(1, true, true, "xx"))
			_, _ = c.Write(fragment(1, false, false, "yyyy"))
		}, time.Minute, time.Minute + 5*time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := pipe()
				gone := make(chan struct{})
				go func() {
					defer close(gone)
					if tc.after {
						establish(t, near, pdu.NewReader(near, pdu.Limits{}))
					}
					tc.peer(t, near)
				}()
				began := time.Now()
				err := serveOne(t.Context(), far, cfg)
				took := time.Since(began)
				_ = far.Close()
				_ = near.Close()
				<-gone
				if !errors.As(err, new(*ul.TimeoutError)) {
					t.Errorf("reported as %v", err)
				}
				if took < tc.min || took > tc.max {
					t.Errorf("left after %v instead of %v to %v", took, tc.min, tc.max)
				}
			})
		})
	}
}

// TestSlowLineIsTolerated sends an object for hours, always making the progress that is asked for.
func TestSlowLineIsTolerated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := pipe()
		done := make(chan error, 1)
		go func() {
			done <- serveOne(context.Background(), far, ul.Config{Progress: time.Minute, MinProgress: 1000, Quiet: time.Minute})
		}()
		establish(t, near, pdu.NewReader(near, pdu.Limits{}))
		_, _ = near.Write(fragment(1, true, true, "xx"))
		for range 600 {
			time.Sleep(15 * time.Second) // fake time
			if _, err := near.Write(fragment(1, false, false, string(make([]byte, 400)))); err != nil {
				t.Fatal(err)
			}
		}
		_, _ = near.Write(fragment(1, false, true, "yy"))
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestPeerThatTakesNothing never reads what we send.
func TestPeerThatTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rq, _, rqConn, acConn := connect(t, ul.Config{Progress: time.Minute}, ul.Config{})
		began := time.Now()
		_, err := rq.Send(t.Context(), 1, []byte("c"), bytes.NewReader(make([]byte, 10<<20)))
		if took := time.Since(began); took > 2*time.Minute+5*time.Second || !errors.As(err, new(*ul.TimeoutError)) {
			t.Errorf("after %v: %v", took, err)
		}
		_ = rqConn.Close()
		_ = acConn.Close()
	})
}

// TestContextEnds cancels while each end waits: the peer is told by an A-ABORT from the application.
func TestContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rq, ac, _, acConn := connect(t, ul.Config{}, ul.Config{})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		done := make(chan error, 1)
		go func() {
			_, _, err := ac.Receive(ctx)
			done <- err
			_ = acConn.Close()
		}()
		_, _, err := rq.Receive(t.Context())
		if ab, ok := errors.AsType[*ul.AbortedError](err); !ok || ab.Abort.Source != pdu.AbortUser {
			t.Errorf("the peer sees %v", err)
		}
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("the caller sees %v", err)
		}
	})
}

// TestLostConnections cuts the connection at every byte of an association: always an error, never a whole message.
func TestLostConnections(t *testing.T) {
	stream := append(encodedRQ(t), fragment(1, true, true, "cc")...)
	stream = append(stream, fragment(1, false, false, "dddd")...)
	stream = append(stream, fragment(1, false, true, "eeee")...)
	for cut := range len(stream) {
		near, far := pipe()
		_, _ = near.Write(stream[:cut])
		_ = near.Close()
		if err := serveOne(t.Context(), far, ul.Config{}); !errors.Is(err, ul.ErrLost) {
			t.Fatalf("cut after %d bytes of %d: %v", cut, len(stream), err)
		}
		_ = far.Close()
	}
	near, far := pipe()
	_, _ = near.Write(stream)
	_ = near.CloseWrite()
	if err := serveOne(t.Context(), far, ul.Config{}); err != nil {
		t.Errorf("not cut: %v", err)
	}
}

// TestReleaseInsideAMessage must not look like the end of the data set.
func TestReleaseInsideAMessage(t *testing.T) {
	near, far := pipe()
	stream := append(encodedRQ(t), fragment(1, true, true, "cc")...)
	stream = append(stream, fragment(1, false, false, "dddd")...)
	_, _ = near.Write(append(stream, pdu.EncodeReleaseRQ()...))
	_ = near.CloseWrite()
	if err := serveOne(t.Context(), far, ul.Config{}); !errors.As(err, new(*ul.ProtocolError)) {
		t.Errorf("reported as %v", err)
	}
}

// TestAbortExplainsABrokenWrite has the peer abort and close while we send: the reason must not be lost behind a broken pipe.
func TestAbortExplainsABrokenWrite(t *testing.T) {
	rq, ac, _, acConn := connect(t, ul.Config{}, ul.Config{Close: time.Millisecond})
	if _, err := rq.Send(t.Context(), 1, []byte("cc"), nil); err != nil {
		t.Fatal(err)
	}
	if _, _, err := ac.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	ac.Abort()
	_ = acConn.Close()
	_, err := rq.Send(t.Context(), 1, []byte("c"), bytes.NewReader(make([]byte, 10<<20)))
	if !errors.As(err, new(*ul.AbortedError)) {
		t.Errorf("got %v", err)
	}
}

// FuzzAcceptor feeds any bytes to an acceptor that then sees the connection end: it must come to an end too, and never succeed
// unless there was a whole message.
func FuzzAcceptor(f *testing.F) {
	rq := &pdu.AssociateRQ{ProtocolVersion: 1, Contexts: proposal().Contexts}
	head, err := rq.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(head)
	f.Add(append(bytes.Clone(head), fragment(1, true, true, "xx")...))
	f.Add(append(append(bytes.Clone(head), fragment(1, true, true, "xx")...), fragment(1, false, true, "yy")...))
	f.Add(append(bytes.Clone(head), pdu.EncodeReleaseRQ()...))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 32<<10 {
			return // more than the pipe holds
		}
		near, far := pipe()
		_, _ = near.Write(b)
		_ = near.CloseWrite()
		if err := serveOne(context.Background(), far, ul.Config{Close: time.Millisecond}); err == nil && len(b) < len(head) {
			t.Fatalf("%d bytes make a whole message", len(b))
		}
		_ = far.Close()
	})
}
