package mtu

import "time"

// Times of a Finder.
const (
	// Wait is how long the answer to large packets is waited for, and SmallWait that to small ones.
	Wait      = 8 * time.Second
	SmallWait = 4 * time.Second
	Soon      = time.Second      // until it is tried again after a loss
	Later     = 30 * time.Second // when nothing is known, because small packets get no answer either
	Every     = 10 * time.Minute // while all is well
	Anew      = 24 * time.Hour   // after which the first size is tried again
)

// Misses is how often in a row large packets must be lost while small ones get through.
const Misses = 2

// Large and Small are how much is sent and comes back, in bytes. Large fills several packets of any size here, each way.
const (
	Large = 6 << 10
	Small = 16
)

// Least is the smallest MTU that is tried, in bytes: what every IPv4 host takes whole (RFC 791).
const Least = 576

// ladder are the sizes in bytes. An IPv6 path of 1280 carries 1200 (WireGuard adds 80), and an IPv4 path of 1280 carries 1220.
var ladder = [...]int{1400, 1360, 1280, 1200, 1120, 1000, 800, 680, Least}

// Outcome is what came of an attempt.
type Outcome int

// Outcomes.
const (
	// Unknown: small packets were not answered either, or somebody answered something else.
	Unknown Outcome = iota
	// Through: large packets went there and back.
	Through
	// Lost: large ones were not answered in time, small ones were.
	Lost
)

// Finder decides on the size. The zero value is of no use; see New. It is not safe for concurrent use.
type Finder struct {
	first, size int
	lost        int
	lowered     time.Time // since when it is below first
	sure        bool      // size has been tried and gets through
}

// New returns a Finder that begins with an MTU in bytes, which is also the largest.
func New(first int) *Finder { return &Finder{first: first, size: first} }

// Size is the MTU to use, in bytes.
func (f *Finder) Size() int { return f.size }

// Lowered reports since when Size is not the first; zero if it is.
func (f *Finder) Lowered() time.Time { return f.lowered }

// Sure reports whether Size is known to get through.
func (f *Finder) Sure() bool { return f.sure }

// Moved says that the box is in another network, maybe.
func (f *Finder) Moved() { *f = *New(f.first) }

// Take takes what came of an attempt with Size, and returns when the next one is due.
func (f *Finder) Take(o Outcome, now time.Time) (next time.Duration) {
	switch o {
	case Through:
		f.lost, f.sure = 0, true
		if !f.lowered.IsZero() && now.Sub(f.lowered) >= Anew {
			f.Moved()
			return Soon
		}
		return Every
	case Lost:
		f.sure = false
		if f.lost++; f.lost >= Misses {
			f.lost = 0
			f.lower(now)
		}
		return Soon
	case Unknown:
	}
	f.lost = 0
	return Later
}

// lower goes one size down. Below the last there is none: then it is something else.
func (f *Finder) lower(now time.Time) {
	for _, s := range ladder {
		if s < f.size {
			f.size = s
			if f.lowered.IsZero() {
				f.lowered = now
			}
			return
		}
	}
	f.Moved()
}
