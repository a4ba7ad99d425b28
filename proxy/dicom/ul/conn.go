package ul

import (
	"context"
	"errors"
	"math"
	"net"
	"sync"
	"time"
)

// timedConn adds three things to a connection: a deadline that moves on only when the peer makes progress, an end by context, and
// errors that say what was waited for.
type timedConn struct {
	net.Conn
	writeSpan time.Duration
	minBytes  int

	// The rule for reading: need bytes in every span of waiting, of which left remains. Time that we ourselves spend elsewhere,
	// such as syncing a disk, does not count against the peer. need is math.MaxInt where the span is never renewed.
	doing string
	span  time.Duration
	left  time.Duration
	need  int
	got   int

	mu     sync.Mutex
	broken error // why everything fails from now on; set by the context's end
	final  bool  // the goodbye is under way: the context no longer counts
}

// within allows d for all reads from now until the rule changes.
func (c *timedConn) within(doing string, d time.Duration) { c.rule(doing, d, math.MaxInt) }

// progress allows reads as long as at least minBytes arrive in every span of d.
func (c *timedConn) progress(doing string, d time.Duration) { c.rule(doing, d, c.minBytes) }

func (c *timedConn) rule(doing string, d time.Duration, need int) {
	c.doing, c.span, c.left, c.need, c.got = doing, d, d, need, 0
}

// use makes the end of ctx break all reads and writes, until stop is called.
func (c *timedConn) use(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if !c.final {
			c.broken = &interruptedError{cause: context.Cause(ctx)}
			_ = c.Conn.SetDeadline(time.Unix(1, 0)) // a failing conn fails the next read anyway
		}
	})
}

// goodbye allows d for everything that is still to be read and written, whatever became of the context.
func (c *timedConn) goodbye(d time.Duration) {
	c.mu.Lock()
	c.final, c.broken = true, nil
	c.mu.Unlock()
	c.within("waiting for the peer to close", d)
	c.writeSpan = d
}

// release takes all deadlines off the connection.
func (c *timedConn) release() {
	_ = c.SetDeadline(time.Time{}) // a failing conn fails the next read anyway
}

func (c *timedConn) Read(p []byte) (int, error) {
	began := time.Now()
	if err := c.arm(c.Conn.SetReadDeadline, began.Add(c.left)); err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(p)
	c.left -= time.Since(began)
	if c.got += n; c.got >= c.need {
		c.got, c.left = 0, c.span
	}
	if err != nil {
		err = c.explain(err, c.doing, c.span)
	}
	return n, err
}

// Write sends p, usually in one system call; a peer that takes at least minBytes in every span is waited for.
func (c *timedConn) Write(p []byte) (int, error) {
	var total int
	for {
		if err := c.arm(c.Conn.SetWriteDeadline, time.Now().Add(c.writeSpan)); err != nil {
			return total, err
		}
		n, err := c.Conn.Write(p[total:])
		total += n
		if err == nil {
			return total, nil
		}
		err = c.explain(err, "sending to a peer that takes no data", c.writeSpan)
		if _, slow := errors.AsType[*TimeoutError](err); !slow || n < c.minBytes {
			return total, err
		}
	}
}

// arm sets a deadline unless the context has ended; both under the lock, so that neither undoes the other.
func (c *timedConn) arm(set func(time.Time) error, at time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken != nil {
		return c.broken
	}
	return set(at)
}

// explain turns a deadline error into what it means.
func (c *timedConn) explain(err error, doing string, span time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken != nil {
		return c.broken
	}
	// Not os.ErrDeadlineExceeded: the user-space network stack has an error of its own.
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		return &TimeoutError{Doing: doing, After: span}
	}
	return err
}
