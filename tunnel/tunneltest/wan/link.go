package wan

import (
	"math/rand/v2"
	"time"
)

// Link describes one direction of a line. The zero value passes everything on at once.
type Link struct {
	// Rate is in bit/s of whole packets as they are handed in; 0 means unlimited, and then there is no queue.
	Rate int64
	// Delay is the one-way time from the end of serialization to the far end.
	Delay time.Duration
	// Jitter varies the delay of each packet evenly by up to this much in either direction; the delay never gets negative.
	Jitter time.Duration
	// Loss is the probability, 0 to 1, that a packet is lost after it took its time on the line.
	Loss float64
	// Queue is how many bytes may wait for the line or be on it; a packet that does not fit is dropped. 0 means 100 ms worth of
	// Rate, and at least 64 KiB.
	Queue int
	// Reorder lets Jitter change the order of packets. Otherwise a packet waits for the one before it.
	Reorder bool
	// Seed chooses the pattern of loss and jitter: the same seed and traffic give the same pattern.
	Seed uint64
}

// queue is the effective capacity in bytes.
func (l Link) queue() int {
	if l.Queue > 0 {
		return l.Queue
	}
	return max(64<<10, int(l.Rate/8/10))
}

// Stats counts what a Line did.
type Stats struct {
	Packets, Bytes                   int64 // handed in
	DeliveredPackets, DeliveredBytes int64
	QueueDrops                       int64 // packets that did not fit the queue
	Lost                             int64 // packets lost on the line
	MaxQueue                         int   // most bytes that waited for the line at once
}

// waiting is a packet that has not left the line yet.
type waiting struct {
	until time.Time // end of its serialization
	size  int
}

// schedule decides the fate of packets: a pure function of what was offered before and now.
type schedule struct {
	link  Link
	rng   *rand.Rand
	queue []waiting
	bytes int // sum over queue
	// busy is when the line has sent all that was accepted, exact to carry/Rate ns.
	busy  time.Time
	carry int64
	last  time.Time // latest arrival promised so far
	stats Stats
}

func newSchedule(l Link) *schedule {
	return &schedule{link: l, rng: rand.New(rand.NewPCG(l.Seed, 0x746f7770617468))}
}

// offer hands in a packet of size bytes at now, which never goes back. It returns when the packet arrives, or false if it never does.
func (s *schedule) offer(now time.Time, size int) (time.Time, bool) {
	s.stats.Packets++
	s.stats.Bytes += int64(size)
	// Both are drawn for every packet, so that one setting does not shift the pattern of the other.
	lost, swing := s.rng.Float64() < s.link.Loss, s.rng.Float64()*2-1
	out := now
	if s.link.Rate > 0 {
		for len(s.queue) > 0 && !s.queue[0].until.After(now) {
			s.bytes -= s.queue[0].size
			s.queue = s.queue[1:]
		}
		if s.bytes+size > s.link.queue() {
			s.stats.QueueDrops++
			return time.Time{}, false
		}
		out = s.serialize(now, size)
		s.queue = append(s.queue, waiting{out, size})
		s.bytes += size
		s.stats.MaxQueue = max(s.stats.MaxQueue, s.bytes)
	}
	if lost {
		s.stats.Lost++
		return time.Time{}, false
	}
	at := out.Add(max(0, s.link.Delay+time.Duration(swing*float64(s.link.Jitter))))
	if !s.link.Reorder && at.Before(s.last) {
		at = s.last
	}
	if at.After(s.last) {
		s.last = at
	}
	return at, true
}

// serialize occupies the line for size bytes and returns when it is free again. The remainder of the division is carried over, so
// that the rate is exact however many packets there are.
func (s *schedule) serialize(now time.Time, size int) time.Time {
	if s.busy.Before(now) {
		s.busy, s.carry = now, 0
	}
	work := int64(size)*8*int64(time.Second) + s.carry // bit·ns: below 2^63 for any packet up to 1 GiB
	s.carry = work % s.link.Rate
	s.busy = s.busy.Add(time.Duration(work / s.link.Rate))
	return s.busy
}
