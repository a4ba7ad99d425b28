package transfer

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// appendFrame appends a message with its kind and length.
func appendFrame(b []byte, m message) []byte {
	at := len(b)
	b = m.appendTo(append(b, byte(m.kind()), 0, 0, 0, 0))
	binary.BigEndian.PutUint32(b[at+1:], uint32(len(b)-at-frameHead))
	return b
}

// frameReader reads messages of one lane.
type frameReader struct {
	r    *bufio.Reader
	body []byte
}

func newFrameReader(r io.Reader) *frameReader { return &frameReader{r: bufio.NewReaderSize(r, 64<<10)} }

// next reads one message. The data of a chunk are valid until the next call.
func (f *frameReader) next() (message, error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(f.r, head[:]); err != nil {
		return nil, err //nolint:wrapcheck // io.EOF and what the network says, for the caller to judge
	}
	k, n := kind(head[0]), binary.BigEndian.Uint32(head[1:])
	if int64(n) > int64(k.limit()) {
		return nil, fmt.Errorf("%w: kind %d with %d bytes", errMalformed, k, n)
	}
	if cap(f.body) < int(n) {
		f.body = make([]byte, n)
	}
	body := f.body[:n]
	if _, err := io.ReadFull(f.r, body); err != nil {
		return nil, fmt.Errorf("read a message: %w", err)
	}
	return parse(k, body)
}

// idle reports that nothing more has arrived yet.
func (f *frameReader) idle() bool { return f.r.Buffered() < frameHead }

const (
	// maxPending bounds what waits for a slow peer, in bytes. Beyond it the session ends.
	maxPending = 8 << 20
	// writeTimeout is how long one write may take.
	writeTimeout = 60 * time.Second
)

// outbound writes small messages to a lane in the order in which they were put, many in one segment, without ever blocking who puts them.
type outbound struct {
	mu      sync.Mutex
	pending []byte
	over    bool
	wake    chan struct{} // capacity 1
}

func newOutbound() *outbound { return &outbound{wake: make(chan struct{}, 1)} }

func (o *outbound) put(m message) {
	o.mu.Lock()
	if len(o.pending) < maxPending {
		o.pending = appendFrame(o.pending, m)
	} else {
		o.over = true
	}
	o.mu.Unlock()
	o.nudge()
}

func (o *outbound) nudge() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// take returns what is pending, and keeps spare for later.
func (o *outbound) take(spare []byte) ([]byte, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.over {
		return nil, fmt.Errorf("the peer does not read: %d bytes wait for it", len(o.pending))
	}
	b := o.pending
	o.pending = spare[:0]
	return b, nil
}

// run writes until done is closed or an error.
func (o *outbound) run(write func([]byte) error, done <-chan struct{}) error {
	var spare []byte
	for {
		select {
		case <-o.wake:
		case <-done:
			return nil
		}
		b, err := o.take(spare)
		if err != nil {
			return err
		}
		if err := write(b); err != nil {
			return err
		}
		if spare = b; cap(spare) > 256<<10 {
			spare = nil
		}
	}
}

func writeAll(c net.Conn, b []byte) error {
	if len(b) == 0 {
		return nil
	}
	_ = c.SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, err := c.Write(b); err != nil {
		return fmt.Errorf("write to the peer: %w", err)
	}
	return nil
}
