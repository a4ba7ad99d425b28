package proxytest

import (
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Faults say how a connection misbehaves. Counts are of bytes since the connection was wrapped; zero fields do nothing.
type Faults struct {
	// CutRead and CutWrite break the connection in both directions when that many bytes were read or written. The bytes before the
	// cut are delivered.
	CutRead, CutWrite int64
	// StallRead and StallWrite block the direction for good after that many bytes; deadlines and Close still work.
	StallRead, StallWrite int64
	// Chunk bounds the bytes of one Read or of one Write below, as small segments do.
	Chunk int
	// Delay is slept before each chunk.
	Delay time.Duration
}

// Faulty wraps c with faults. The result offers CloseWrite if c does.
func Faulty(c net.Conn, f Faults) net.Conn {
	return &faulty{Conn: c, faults: f, closed: make(chan struct{})}
}

type faulty struct {
	net.Conn
	faults            Faults
	read, written     atomic.Int64
	closed            chan struct{}
	once              sync.Once
	readEnd, writeEnd deadline
}

// CloseWrite ends the writing direction of the connection below.
func (f *faulty) CloseWrite() error {
	if h, ok := f.Conn.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite() //nolint:wrapcheck // transparent
	}
	return syscall.ENOTSUP
}

// Close closes the connection below and ends stalls.
func (f *faulty) Close() error {
	f.once.Do(func() { close(f.closed) })
	return f.Conn.Close() //nolint:wrapcheck // transparent
}

// SetDeadline sets both deadlines, also for stalls.
func (f *faulty) SetDeadline(t time.Time) error {
	f.readEnd.set(t)
	f.writeEnd.set(t)
	return f.Conn.SetDeadline(t) //nolint:wrapcheck // transparent
}

// SetReadDeadline sets the deadline of reads, also for stalls.
func (f *faulty) SetReadDeadline(t time.Time) error {
	f.readEnd.set(t)
	return f.Conn.SetReadDeadline(t) //nolint:wrapcheck // transparent
}

// SetWriteDeadline sets the deadline of writes, also for stalls.
func (f *faulty) SetWriteDeadline(t time.Time) error {
	f.writeEnd.set(t)
	return f.Conn.SetWriteDeadline(t) //nolint:wrapcheck // transparent
}

// Read reads with the faults of the reading direction.
func (f *faulty) Read(b []byte) (int, error) {
	size, err := f.before(len(b), f.read.Load(), f.faults.CutRead, f.faults.StallRead, &f.readEnd)
	if err != nil {
		return 0, err
	}
	n, err := f.Conn.Read(b[:size])
	f.read.Add(int64(n))
	return n, err //nolint:wrapcheck // transparent
}

// Write writes with the faults of the writing direction.
func (f *faulty) Write(b []byte) (int, error) {
	done := 0
	for done < len(b) {
		size, err := f.before(len(b)-done, f.written.Load(), f.faults.CutWrite, f.faults.StallWrite, &f.writeEnd)
		if err != nil {
			return done, err
		}
		n, err := f.Conn.Write(b[done : done+size])
		f.written.Add(int64(n))
		done += n
		if err != nil {
			return done, err //nolint:wrapcheck // transparent
		}
	}
	return done, nil
}

// before says how many of want bytes may pass now, or breaks or blocks.
func (f *faulty) before(want int, passed, cut, stall int64, end *deadline) (int, error) {
	if cut > 0 && passed >= cut {
		if c, ok := f.Conn.(*Conn); ok {
			c.Reset()
		} else {
			_ = f.Conn.Close()
		}
		return 0, syscall.ECONNRESET
	}
	if stall > 0 && passed >= stall {
		return 0, end.block(f.closed)
	}
	if f.faults.Delay > 0 {
		<-time.After(f.faults.Delay)
	}
	for _, bound := range []int64{cut - passed, stall - passed, int64(f.faults.Chunk)} {
		if bound > 0 {
			want = min(want, int(bound))
		}
	}
	return want, nil
}

// deadline ends a stall.
type deadline struct {
	mu      sync.Mutex
	at      time.Time
	changed chan struct{}
}

func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.at = t
	if d.changed != nil {
		close(d.changed)
		d.changed = nil
	}
}

// block returns when the deadline has passed or closed is closed.
func (d *deadline) block(closed <-chan struct{}) error {
	for {
		d.mu.Lock()
		if d.changed == nil {
			d.changed = make(chan struct{})
		}
		at, changed := d.at, d.changed
		d.mu.Unlock()
		var passed <-chan time.Time
		if !at.IsZero() {
			passed = time.After(time.Until(at))
		}
		select {
		case <-closed:
			return net.ErrClosed
		case <-changed:
		case <-passed:
			return os.ErrDeadlineExceeded
		}
	}
}
