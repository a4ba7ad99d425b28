package ul_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"

	"pgregory.net/rapid"

	"github.com/towpath/towpath/proxy/dicom/pdu"
	"github.com/towpath/towpath/proxy/dicom/ul"
	"github.com/towpath/towpath/proxy/proxytest"
)

const (
	class  = "1.2.840.10008.5.1.4.1.1.2"
	syntax = "1.2.840.10008.1.2.1"
)

func pipe() (near, far *proxytest.Conn) {
	return proxytest.Pipe(netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("192.0.2.2:104"))
}

func proposal() ul.Proposal {
	return ul.Proposal{CallingAE: "CT1", CalledAE: "PACS", Contexts: []pdu.ProposedContext{
		{ID: 1, AbstractSyntax: class, TransferSyntaxes: []string{syntax}},
		{ID: 3, AbstractSyntax: "1.2.3", TransferSyntaxes: []string{syntax}},
	}}
}

// accept accepts the first context and refuses the others.
func accept(in *ul.Incoming) []pdu.AcceptedContext {
	var out []pdu.AcceptedContext
	for i, pc := range in.RQ.Contexts {
		ac := pdu.AcceptedContext{ID: pc.ID, TransferSyntax: pc.TransferSyntaxes[0]}
		if i > 0 {
			ac.Result = pdu.ContextAbstractSyntax
		}
		out = append(out, ac)
	}
	return out
}

// fataler is what *testing.T and *rapid.T have in common here.
type fataler interface {
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Cleanup(f func())
}

// connect returns both ends of a new association.
func connect(t fataler, requestor, acceptor ul.Config) (rq, ac *ul.Association, rqConn, acConn *proxytest.Conn) {
	rqConn, acConn = pipe()
	t.Cleanup(func() {
		_ = rqConn.Close()
		_ = acConn.Close()
	})
	type answer struct {
		a   *ul.Association
		err error
	}
	done := make(chan answer, 1)
	go func() {
		in, err := ul.Receive(context.Background(), acConn, acceptor)
		if err != nil {
			done <- answer{nil, err}
			return
		}
		a, err := in.Accept(context.Background(), accept(in))
		done <- answer{a, err}
	}()
	rq, err := ul.Request(context.Background(), rqConn, proposal(), requestor)
	if err != nil {
		t.Fatal(err)
	}
	got := <-done
	if got.err != nil {
		t.Fatal(got.err)
	}
	return rq, got.a, rqConn, acConn
}

func TestNegotiation(t *testing.T) {
	rq, ac, _, _ := connect(t, ul.Config{}, ul.Config{Limits: pdu.Limits{MaxData: 4096}})
	for name, a := range map[string]*ul.Association{"requestor": rq, "acceptor": ac} {
		c, ok := a.Context(1)
		if !ok || c.AbstractSyntax != class || c.TransferSyntax != syntax {
			t.Errorf("%s: context 1 is %+v, %v", name, c, ok)
		}
		if _, ok := a.Context(3); ok {
			t.Errorf("%s: context 3 is accepted", name)
		}
		if a.Request().CallingAE != "CT1" || a.Request().CalledAE != "PACS" {
			t.Errorf("%s: AE titles %q, %q", name, a.Request().CallingAE, a.Request().CalledAE)
		}
	}
	if got := rq.Accepted().UserInfo; got.MaxLength != 4096 || got.ImplementationClass != ul.ImplementationClass {
		t.Errorf("the acceptor says %+v", got)
	}
	if got := ac.Request().UserInfo.Async; got != nil {
		t.Errorf("an asynchronous window %+v was offered", got)
	}
}

// TestMessagesArriveAsSent sends messages of random sizes over associations with random maximum lengths, and reads them in random
// ways.
func TestMessagesArriveAsSent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		maxData := rapid.Uint32Range(8, 3000).Draw(t, "max length")
		rq, ac, _, acConn := connect(t, ul.Config{}, ul.Config{Limits: pdu.Limits{MaxData: maxData}})
		type message struct{ command, data []byte }
		var messages []message
		for range rapid.IntRange(1, 4).Draw(t, "messages") {
			messages = append(messages, message{
				command: rapid.SliceOfN(rapid.Byte(), 1, 300).Draw(t, "command"),
				data:    bytes.Repeat([]byte{rapid.Byte().Draw(t, "fill"), 1, 2}, rapid.IntRange(0, 3000).Draw(t, "thirds")),
			})
		}
		sent := make(chan error, 1)
		odd := rapid.Bool().Draw(t, "one byte at a time")
		go func() {
			for _, m := range messages {
				var data io.Reader = bytes.NewReader(m.data)
				if odd {
					data = iotest.HalfReader(iotest.DataErrReader(data))
				}
				n, err := rq.Send(context.Background(), 1, m.command, data)
				if err == nil && n != int64(len(m.data)) {
					err = fmt.Errorf("%d bytes sent instead of %d", n, len(m.data))
				}
				if err != nil {
					sent <- err
					return
				}
			}
			err := rq.Release(context.Background())
			sent <- err
		}()
		for i, m := range messages {
			id, command, err := ac.Receive(context.Background())
			if err != nil || id != 1 || !bytes.Equal(command, m.command) {
				t.Fatalf("message %d: context %d, %d bytes of command, %v", i, id, len(command), err)
			}
			var got bytes.Buffer
			ds := ac.Data(context.Background(), id)
			if rapid.Bool().Draw(t, "WriteTo") {
				_, err = ds.WriteTo(&got)
			} else {
				_, err = io.Copy(&got, struct{ io.Reader }{ds})
			}
			if err != nil || !bytes.Equal(got.Bytes(), m.data) || ds.Len() != int64(len(m.data)) {
				t.Fatalf("message %d: data set of %d bytes instead of %d, %v", i, got.Len(), len(m.data), err)
			}
		}
		closeWhenSent := make(chan struct{})
		go func() {
			defer close(closeWhenSent)
			if err := <-sent; err != nil {
				t.Errorf("sender: %v", err)
			}
			_ = acConn.Close()
		}()
		if _, _, err := ac.Receive(context.Background()); !errors.Is(err, ul.ErrReleased) {
			t.Fatalf("at the end: %v", err)
		}
		<-closeWhenSent
	})
}

// TestFragmentsFitThePeer looks at the bytes: no P-DATA-TF is longer than the peer takes, fragments are even but for the last,
// and a response goes out in one write.
func TestFragmentsFitThePeer(t *testing.T) {
	rq, _, _, acConn := connect(t, ul.Config{}, ul.Config{Limits: pdu.Limits{MaxData: 1001}})
	go func() {
		_, _ = rq.Send(context.Background(), 1, make([]byte, 2500), bytes.NewReader(make([]byte, 5001)))
		rq.Abort()
	}()
	r := pdu.NewReader(acConn, pdu.Limits{})
	var command, data uint32
	for {
		h, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if h.Type == pdu.TypeAbort {
			break
		}
		if h.Length > 1001 {
			t.Errorf("a P-DATA-TF of %d bytes", h.Length)
		}
		v, err := r.NextPDV()
		if err != nil {
			t.Fatal(err)
		}
		if !v.Last && v.Length%2 != 0 {
			t.Errorf("a fragment of %d bytes", v.Length)
		}
		if v.Command {
			command += v.Length
		} else {
			data += v.Length
		}
		if err := r.Discard(); err != nil {
			t.Fatal(err)
		}
	}
	if command != 2500 || data != 5001 {
		t.Errorf("%d bytes of command and %d of data", command, data)
	}
}

type countingConn struct {
	net.Conn
	writes int
}

func (c *countingConn) Write(b []byte) (int, error) {
	c.writes++
	return c.Conn.Write(b)
}

func TestOneWriteForEachMessage(t *testing.T) {
	near, far := pipe()
	defer func() { _ = far.Close() }()
	counted := &countingConn{Conn: near}
	accepted := make(chan *ul.Association, 1)
	go func() {
		in, err := ul.Receive(context.Background(), far, ul.Config{})
		if err != nil {
			accepted <- nil
			return
		}
		a, _ := in.Accept(context.Background(), accept(in))
		accepted <- a
	}()
	rq, err := ul.Request(context.Background(), counted, proposal(), ul.Config{})
	if err != nil {
		t.Fatal(err)
	}
	<-accepted
	counted.writes = 0
	if _, err := rq.Send(context.Background(), 1, make([]byte, 100), strings.NewReader("a small data set")); err != nil {
		t.Fatal(err)
	}
	if counted.writes != 1 {
		t.Errorf("%d writes for a command with a small data set", counted.writes)
	}
}

// TestReleaseCollision has both sides release at the same moment.
func TestReleaseCollision(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rq, ac, rqConn, acConn := connect(t, ul.Config{}, ul.Config{})
		results := make(chan error, 2)
		go func() {
			results <- rq.Release(t.Context())
			_ = rqConn.Close()
		}()
		go func() {
			results <- ac.Release(t.Context())
			_ = acConn.Close()
		}()
		for range 2 {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
	})
}

// TestReleaseDropsLateData is AR-6: data that was under way when we asked for the release.
func TestReleaseDropsLateData(t *testing.T) {
	rq, ac, _, acConn := connect(t, ul.Config{}, ul.Config{})
	if _, err := ac.Send(t.Context(), 1, make([]byte, 50), strings.NewReader("late")); err != nil {
		t.Fatal(err)
	}
	go func() {
		_, _, _ = ac.Receive(context.Background())
		_ = acConn.Close()
	}()
	if err := rq.Release(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := rq.Send(t.Context(), 1, nil, nil); !errors.Is(err, ul.ErrEnded) {
		t.Errorf("sending after the release: %v", err)
	}
}

func TestRejectAndAbortAreReported(t *testing.T) {
	want := pdu.AssociateRJ{Result: pdu.RejectedPermanent, Source: pdu.SourceUser, Reason: pdu.UserCalledAE}
	near, far := pipe()
	go func() {
		in, err := ul.Receive(context.Background(), far, ul.Config{})
		if err == nil {
			_ = in.Reject(context.Background(), want)
		}
	}()
	_, err := ul.Request(t.Context(), near, proposal(), ul.Config{})
	_ = near.Close()
	if rj, ok := errors.AsType[*ul.RejectedError](err); !ok || rj.RJ != want {
		t.Errorf("rejection: %v", err)
	}

	rq, ac, rqConn, _ := connect(t, ul.Config{}, ul.Config{})
	go func() {
		rq.Abort()
		_ = rqConn.Close()
	}()
	_, _, err = ac.Receive(t.Context())
	if ab, ok := errors.AsType[*ul.AbortedError](err); !ok || ab.Abort.Source != pdu.AbortUser {
		t.Errorf("abort: %v", err)
	}
	if _, _, err = ac.Receive(t.Context()); !errors.Is(err, ul.ErrEnded) {
		t.Errorf("after the abort: %v", err)
	}
}

// TestSourceErrorAborts breaks the data set that is being sent: the peer must not take half of it for the whole.
func TestSourceErrorAborts(t *testing.T) {
	rq, ac, rqConn, _ := connect(t, ul.Config{}, ul.Config{})
	broken := errors.New("digest differs")
	go func() {
		data := io.MultiReader(bytes.NewReader(make([]byte, 300000)), iotest.ErrReader(broken))
		_, err := rq.Send(context.Background(), 1, make([]byte, 10), data)
		if !errors.As(err, new(*ul.SourceError)) || !errors.Is(err, broken) {
			t.Errorf("sender: %v", err)
		}
		_ = rqConn.Close()
	}()
	id, _, err := ac.Receive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ac.Data(t.Context(), id).WriteTo(io.Discard); !errors.As(err, new(*ul.AbortedError)) {
		t.Errorf("receiver: %v", err)
	}
}

// TestWriterErrorLeavesTheAssociation reads on after a disk error.
func TestWriterErrorLeavesTheAssociation(t *testing.T) {
	rq, ac, _, _ := connect(t, ul.Config{}, ul.Config{})
	go func() {
		_, _ = rq.Send(context.Background(), 1, make([]byte, 10), bytes.NewReader(make([]byte, 300000)))
		_, _ = rq.Send(context.Background(), 1, []byte("next"), nil)
	}()
	id, _, err := ac.Receive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	full := errors.New("disk full")
	ds := ac.Data(t.Context(), id)
	if _, err := ds.WriteTo(&limitedWriter{left: 1000, err: full}); !errors.Is(err, full) {
		t.Fatalf("writer: %v", err)
	}
	if _, err := ds.WriteTo(io.Discard); err != nil {
		t.Fatal(err)
	}
	if _, command, err := ac.Receive(t.Context()); err != nil || string(command) != "next" {
		t.Errorf("%q, %v", command, err)
	}
}

type limitedWriter struct {
	left int
	err  error
}

func (w *limitedWriter) Write(b []byte) (int, error) {
	if n := min(len(b), w.left); n < len(b) {
		w.left = 0
		return n, w.err
	}
	w.left -= len(b)
	return len(b), nil
}
