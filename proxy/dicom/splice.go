package dicom

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"github.com/towpath/towpath/proxy/dicom/pdu"
)

// spliceBuffer is what each direction of a splice holds.
const spliceBuffer = 64 << 10

// goodbyeTime bounds the A-ABORT that is written when a splice is cut short.
const goodbyeTime = time.Second

// splice forwards bytes between two connections: up from near to far, down from far to near. An end of one direction is passed on
// as a half-close, after which the other has a short while to end too.
type splice struct {
	limits   Limits
	up, down flow
	upDone   chan struct{}

	watch  *time.Timer
	quiet  atomic.Int64 // current patience, a time.Duration
	silent atomic.Bool  // the watch struck
}

// flow is one direction. It belongs to one goroutine until that has ended.
type flow struct {
	from, to net.Conn
	total    int64
	frame    frame
	listener *listener // may be nil
	ended    bool      // from has ended or failed by itself
	broken   bool      // to failed
}

func newSplice(near, far net.Conn, lim Limits) *splice {
	s := &splice{limits: lim, up: flow{from: near, to: far}, down: flow{from: far, to: near}, upDone: make(chan struct{})}
	s.quiet.Store(int64(lim.PassThroughQuiet))
	s.watch = time.AfterFunc(lim.PassThroughQuiet, func() {
		s.silent.Store(true)
		s.interrupt()
	})
	return s
}

// interrupt makes both directions stop where they are.
func (s *splice) interrupt() {
	_ = s.up.from.SetDeadline(time.Unix(1, 0)) // a failing conn ends its direction anyway
	_ = s.up.to.SetDeadline(time.Unix(1, 0))
}

// startUp starts the direction to the far side, before its answer is there: a peer may give up while it waits.
func (s *splice) startUp() {
	go func() {
		defer close(s.upDone)
		s.copy(&s.up)
	}()
}

// stopUp ends the direction to the far side and leaves the near connection usable.
func (s *splice) stopUp() {
	_ = s.up.from.SetReadDeadline(time.Unix(1, 0)) // a failing conn fails the read anyway
	_ = s.up.to.SetDeadline(time.Unix(1, 0))
	<-s.upDone
	_ = s.up.from.SetReadDeadline(time.Time{})
}

// run forwards what was already read of the far side, and then everything until both directions have ended. If ctx ends first, both
// sides get an A-ABORT, unless that would fall into the middle of a PDU.
func (s *splice) run(ctx context.Context, first []byte) {
	stop := context.AfterFunc(ctx, s.interrupt)
	if s.write(&s.down, first) {
		s.copy(&s.down)
	}
	<-s.upDone
	if cut := !stop() || s.silent.Load(); !cut || s.released() {
		return
	}
	for _, f := range []*flow{&s.up, &s.down} {
		if !f.broken && f.frame.boundary() {
			if err := f.to.SetWriteDeadline(time.Now().Add(goodbyeTime)); err == nil {
				_, _ = f.to.Write(pdu.Abort{Source: pdu.AbortProvider}.Encode()) // the peer may be gone, which is as well
			}
		}
	}
}

// released reports whether the association has ended in order.
func (s *splice) released() bool {
	return s.up.frame.last == pdu.TypeReleaseRP || s.down.frame.last == pdu.TypeReleaseRP
}

func (s *splice) copy(f *flow) {
	buf := make([]byte, spliceBuffer)
	for {
		n, err := f.from.Read(buf)
		if n > 0 && !s.write(f, buf[:n]) {
			break
		}
		if err != nil {
			ne, ok := errors.AsType[net.Error](err)
			f.ended = !ok || !ne.Timeout()
			break
		}
	}
	s.quiet.Store(int64(s.limits.PassThroughEnd))
	s.alive()
	if half, ok := f.to.(interface{ CloseWrite() error }); ok && f.ended {
		_ = half.CloseWrite() // if the peer is gone, the other direction ends too
	} else if f.ended {
		_ = f.to.Close()
	}
}

// write passes b on and reports whether it went.
func (s *splice) write(f *flow, b []byte) bool {
	s.alive()
	if _, err := f.to.Write(b); err != nil {
		f.broken = true
		return false
	}
	f.note(b)
	return true
}

// alive winds the watch up again.
func (s *splice) alive() {
	if !s.silent.Load() {
		s.watch.Reset(time.Duration(s.quiet.Load()))
	}
}

func (f *flow) note(b []byte) {
	f.total += int64(len(b))
	f.frame.feed(b)
	f.listener.feed(b)
}

// frame follows a byte stream from PDU to PDU by their headers alone. It only serves to know where an A-ABORT may be put.
type frame struct {
	head [pdu.HeaderSize]byte
	have int    // bytes of head
	left uint32 // bytes of the body to come
	last pdu.Type
}

func (f *frame) feed(b []byte) {
	for len(b) > 0 {
		if f.left > 0 {
			n := min(uint64(f.left), uint64(len(b)))
			f.left -= uint32(n)
			b = b[n:]
			continue
		}
		n := copy(f.head[f.have:], b)
		f.have += n
		b = b[n:]
		if f.have == len(f.head) {
			h := pdu.DecodeHeader(f.head)
			f.have, f.left, f.last = 0, h.Length, h.Type
		}
	}
}

// boundary reports whether the stream is between two PDUs.
func (f *frame) boundary() bool { return f.have == 0 && f.left == 0 }
