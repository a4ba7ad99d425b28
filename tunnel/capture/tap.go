package capture

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Limits of a capture. A record takes at most 176 bytes, so that the largest capture has 64 MiB.
const (
	MaxTime  = time.Hour
	MaxBytes = 64 << 20
	// maxCaptures run at the same time.
	maxCaptures = 4
	// queued is how many packets the writer may be behind until some are left out.
	queued = 4096
)

// ErrBusy means that as many captures run as may.
var ErrBusy = errors.New("several captures run already: wait until one has ended")

// Options say what to capture.
type Options struct {
	// For is how long, at most MaxTime; 0 means MaxTime.
	For time.Duration
	// Only are prefixes of which a packet's source or destination must be in one; empty means all packets.
	Only []netip.Prefix
}

// Result counts what came of a capture.
type Result struct {
	// Packets were written; Missed were not, because the writer was too slow.
	Packets, Missed uint64
	// Full means that the capture ended because of MaxBytes.
	Full bool
}

// Tap is where a device shows its packets. The zero value is ready, and a nil Tap shows nothing. It is safe for concurrent use.
type Tap struct {
	running atomic.Pointer[[]*subscription] // nil or empty while nobody captures; replaced, never changed
	mu      sync.Mutex
}

// subscription is one capture.
type subscription struct {
	only    []netip.Prefix
	records chan record
	missed  atomic.Uint64
}

// Packets shows packets that begin at an offset of their buffers and are as long as sizes say, or to the end of the buffer if sizes is nil. It
// neither keeps nor changes them, and never waits.
func (t *Tap) Packets(bufs [][]byte, sizes []int, offset int) {
	if t == nil {
		return
	}
	list := t.running.Load()
	if list == nil || len(*list) == 0 {
		return
	}
	now := time.Now()
	for i, b := range bufs {
		end := len(b)
		if sizes != nil {
			if i >= len(sizes) {
				return
			}
			end = offset + sizes[i]
		}
		for _, s := range *list {
			s.packet(b[offset:end], now)
		}
	}
}

func (s *subscription) packet(b []byte, now time.Time) {
	n := Headers(b)
	if n == 0 || !s.wants(b) {
		return
	}
	r := record{at: now, whole: len(b), n: n}
	copy(r.head[:], b[:n])
	select {
	case s.records <- r:
	default:
		s.missed.Add(1)
	}
}

func (s *subscription) wants(b []byte) bool {
	if len(s.only) == 0 {
		return true
	}
	from, to := addresses(b)
	return slices.ContainsFunc(s.only, func(p netip.Prefix) bool { return p.Contains(from) || p.Contains(to) })
}

// Capture writes what passes from now on, until the time is over, ctx is done, w fails or there is enough. The end of ctx is no error.
func (t *Tap) Capture(ctx context.Context, w io.Writer, o Options) (res Result, err error) {
	s := &subscription{only: slices.Clone(o.Only), records: make(chan record, queued)}
	if err := t.add(s); err != nil {
		return res, err
	}
	defer t.remove(s)
	if err := writeFileHeader(w); err != nil {
		return res, err
	}
	limit := o.For
	if limit <= 0 || limit > MaxTime {
		limit = MaxTime
	}
	end := time.NewTimer(limit)
	defer end.Stop()
	size := fileHeader
	for {
		select {
		case <-ctx.Done():
			res.Missed = s.missed.Load()
			return res, nil
		case <-end.C:
			res.Missed = s.missed.Load()
			return res, nil
		case r := <-s.records:
			if size += recordHeader + r.n; size > MaxBytes {
				res.Full, res.Missed = true, s.missed.Load()
				return res, nil
			}
			if err := r.writeTo(w); err != nil {
				return res, err
			}
			res.Packets++
		}
	}
}

func (t *Tap) add(s *subscription) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []*subscription
	if p := t.running.Load(); p != nil {
		list = slices.Clone(*p)
	}
	if len(list) >= maxCaptures {
		return ErrBusy
	}
	list = append(list, s)
	t.running.Store(&list)
	return nil
}

func (t *Tap) remove(s *subscription) {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := slices.DeleteFunc(slices.Clone(*t.running.Load()), func(x *subscription) bool { return x == s })
	t.running.Store(&list)
}
