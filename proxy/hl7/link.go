package hl7

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/towpath/towpath/proxy/hl7/mllp"
)

// Limits bound what a peer may take. Zero fields mean the defaults.
type Limits struct {
	// Message bounds the bytes of one message. Default 16 MiB.
	Message int
	// Idle is how long a connection may be open without a message under way. Default 12 h: HL7 senders keep connections for days.
	Idle time.Duration
	// Progress is how long nothing may move while a message is under way. Default 30 s.
	Progress time.Duration
	// LooseEnd is how long to wait for the carriage return after an end block. Default 300 ms.
	LooseEnd time.Duration
}

// What a zero Limits means.
const (
	DefaultIdle     = 12 * time.Hour
	DefaultProgress = 30 * time.Second
	DefaultLooseEnd = 300 * time.Millisecond
)

func (l Limits) withDefaults() Limits {
	if l.Message <= 0 {
		l.Message = mllp.DefaultLimit
	}
	if l.Idle <= 0 {
		l.Idle = DefaultIdle
	}
	if l.Progress <= 0 {
		l.Progress = DefaultProgress
	}
	if l.LooseEnd <= 0 {
		l.LooseEnd = DefaultLooseEnd
	}
	return l
}

// Errors of a link besides those of mllp, of the connection, and of the context.
var (
	errIdle    = errors.New("nothing was sent for a long time")
	errStalled = errors.New("the message did not go on")
)

const (
	readSize = 16 << 10
	// slowest is the least average speed of a message under way, in bytes per second. It ends senders that drip byte by byte.
	slowest = 1 << 10
)

// link sends and receives messages on a connection. One goroutine may read while others write.
type link struct {
	conn    net.Conn
	limits  Limits
	decoder *mllp.Decoder
	buf     []byte

	inside   bool      // a message is under way
	began    time.Time // since when
	received int       // its bytes so far

	writing sync.Mutex
}

func newLink(c net.Conn, l Limits) *link {
	return &link{conn: c, limits: l, decoder: mllp.NewDecoder(l.Message), buf: make([]byte, readSize)}
}

// interrupt makes a read in progress, and those to come, return when ctx is done. The caller calls stop when it reads no more under
// ctx; from then on the link can be read from again.
func (l *link) interrupt(ctx context.Context) (stop func()) {
	ran := make(chan struct{})
	cancel := context.AfterFunc(ctx, func() {
		defer close(ran)
		_ = l.conn.SetReadDeadline(time.Unix(1, 0))
	})
	return func() {
		if !cancel() {
			<-ran // or it could hit a later read
		}
	}
}

// read returns the next message. At the orderly end of the connection it returns io.EOF, and io.ErrUnexpectedEOF within a message. When
// ctx is done, see interrupt, it returns its cause.
func (l *link) read(ctx context.Context) ([]byte, error) {
	for {
		msg, ok, err := l.decoder.Next()
		if err != nil || ok {
			l.inside = false
			return msg, err //nolint:wrapcheck // callers match them
		}
		if err := l.conn.SetReadDeadline(l.deadline(time.Now())); err != nil {
			return nil, err //nolint:wrapcheck // callers match them
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		n, err := l.conn.Read(l.buf)
		l.decoder.Feed(l.buf[:n])
		l.received += n
		if err != nil && n == 0 {
			return l.broken(ctx, err)
		}
	}
}

func (l *link) deadline(now time.Time) time.Time {
	if !l.decoder.Inside() {
		l.inside = false
		return now.Add(l.limits.Idle)
	}
	if !l.inside {
		l.inside, l.began, l.received = true, now, 0
	}
	if l.decoder.Loose() {
		return now.Add(l.limits.LooseEnd)
	}
	end := now.Add(l.limits.Progress)
	if slow := l.began.Add(l.limits.Progress + time.Duration(l.received)*time.Second/slowest); slow.Before(end) {
		return slow
	}
	return end
}

// broken says what the end of reading means, which may be the end of a message.
func (l *link) broken(ctx context.Context, err error) ([]byte, error) {
	timeout := errors.Is(err, os.ErrDeadlineExceeded)
	if timeout && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if timeout || errors.Is(err, io.EOF) {
		if msg, ok := l.decoder.End(); ok {
			l.inside = false
			return msg, nil
		}
	}
	switch {
	case timeout && l.decoder.Inside():
		return nil, errStalled
	case timeout:
		return nil, errIdle
	case errors.Is(err, io.EOF) && l.decoder.Inside():
		return nil, io.ErrUnexpectedEOF
	case errors.Is(err, io.EOF):
		return nil, io.EOF
	}
	return nil, err
}

// write sends a message as one frame with one call, so that it leaves in as few packets as possible.
func (l *link) write(msg []byte) error {
	frame, err := mllp.Append(nil, msg)
	if err != nil {
		return fmt.Errorf("frame a message: %w", err)
	}
	l.writing.Lock()
	defer l.writing.Unlock()
	patience := l.limits.Progress + time.Duration(len(frame))*time.Second/(16*slowest)
	if err := l.conn.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return fmt.Errorf("send a message: %w", err)
	}
	if _, err := l.conn.Write(frame); err != nil {
		return fmt.Errorf("send a message: %w", err)
	}
	return nil
}
