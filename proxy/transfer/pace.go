package transfer

import (
	"math"
	"time"
)

// How the pacer steers.
const (
	minWindow    = 12 << 10
	startWindow  = 64 << 10
	minChunk     = 4 << 10
	chunkTime    = 8 * time.Millisecond // a chunk is what the line carries in this time
	minTarget    = 6 * time.Millisecond
	maxTarget    = 30 * time.Millisecond
	targetPart   = 2.5 // the queue may have this part of the idle round-trip time
	baseSlot     = 10 * time.Second
	baseSlots    = 30 // five minutes
	probeEvery   = 15 * time.Second
	startupPing  = 15 * time.Millisecond // until the rate of the line is known
	minPing      = 30 * time.Millisecond
	maxPing      = 60 * time.Millisecond
	recentRTTs   = 3
	rateSlot     = 50 * time.Millisecond
	rateSlots    = 10
	rateKept     = 4 * time.Second
	steadyGain   = 0.07 // per round trip
	quickGain    = 0.25
	idlePings    = 20
	startupGain  = 0.75 // per round trip
	paceGain     = 1.25 // of the line's rate is the most that is sent at a time
	paceStartup  = 2.5
	recalled     = 0.9     // of what the line held before is sent at once
	laneSpare    = 8 << 10 // bytes that may wait in a lane for its own congestion window
	initialRate  = 12.5e6  // bytes/s, until measured
	maxWindowAll = 16 << 20
)

// pacer decides how much may be under way, so that the line is always busy and the queue in front of it short: it compares the round-trip time
// of pings, which wait in that queue like any other packet, with the shortest one seen (the idea of LEDBAT, RFC 6817), and steers the window so
// that the difference meets a target. Every 15 s it lets the queue run empty to see the shortest time anew. It is not safe for concurrent use.
type pacer struct {
	window   float64
	inflight int
	lanes    int

	recent  [recentRTTs]time.Duration
	samples int
	base    [baseSlots]time.Duration // shortest round trip of each slot, newest first
	slotEnd time.Time
	startup bool
	idle    int // pings in a row that found hardly a queue
	late    int // pings in a row that waited too long, at the start
	updated time.Time

	probeAt, probeEnd time.Time

	acked   [rateSlots]int
	rateAt  time.Time // end of the newest slot
	rate    float64   // bytes/s, the highest of late
	rateTop time.Time // when rate was seen
	busy    int       // slots in a row that the window was full in
	full    bool

	credit   float64 // bytes that may be sent now
	creditAt time.Time
}

func newPacer(now time.Time) *pacer {
	return &pacer{window: startWindow, startup: true, updated: now, slotEnd: now.Add(baseSlot), probeAt: now.Add(probeEvery), rateAt: now.Add(rateSlot), lanes: 1}
}

// knownLine is what a session has found out, for the next one to begin with.
type knownLine struct {
	rate float64 // bytes/s
	base time.Duration
	at   time.Time
}

// knownFor is how long that is worth something. What has changed since is found out as it is in a long session.
const knownFor = time.Hour

// trip is how much the line holds, in bytes.
func (k knownLine) trip() float64 { return k.rate * k.base.Seconds() }

// learned returns what p knows, the zero value if that is nothing yet.
func (p *pacer) learned(now time.Time) knownLine {
	if p.startup || p.rate == 0 {
		return knownLine{}
	}
	return knownLine{p.rate, p.baseRTT(), now}
}

// recall begins with what a session before knew, a little below it. The round-trip time is measured anew.
func (p *pacer) recall(k knownLine, now time.Time) {
	if k.rate == 0 || now.Sub(k.at) > knownFor {
		return
	}
	p.startup, p.rate, p.rateTop = false, k.rate, now
	p.window = min(max(k.trip()*recalled, startWindow), maxWindowAll)
}

// baseRTT is the round-trip time of the idle line, 0 before the first ping.
func (p *pacer) baseRTT() time.Duration {
	var b time.Duration
	for _, v := range p.base {
		if v > 0 && (b == 0 || v < b) {
			b = v
		}
	}
	return b
}

// queueing is how long packets wait in the line's queue.
func (p *pacer) queueing() time.Duration {
	low := time.Duration(math.MaxInt64)
	for _, v := range p.recent[:min(p.samples, recentRTTs)] {
		low = min(low, v)
	}
	return max(0, low-p.baseRTT())
}

func (p *pacer) target() time.Duration {
	return min(max(time.Duration(float64(p.baseRTT())/targetPart), minTarget), maxTarget)
}

// onRTT takes the round-trip time of a ping.
func (p *pacer) onRTT(rtt time.Duration, now time.Time) {
	for now.After(p.slotEnd) {
		copy(p.base[1:], p.base[:])
		p.base[0] = 0
		p.slotEnd = p.slotEnd.Add(baseSlot)
		if now.Sub(p.slotEnd) > baseSlots*baseSlot {
			p.slotEnd = now.Add(baseSlot)
		}
	}
	if p.base[0] == 0 || rtt < p.base[0] {
		p.base[0] = rtt
	}
	p.recent[p.samples%recentRTTs] = rtt
	p.samples++
	if p.samples < recentRTTs {
		return
	}
	q, target, base := p.queueing(), p.target(), p.baseRTT()
	if now.After(p.probeAt) {
		p.probeEnd = now.Add(2 * (base + target))
		p.probeAt = now.Add(probeEvery)
	}
	if now.Before(p.probeEnd.Add(base + target)) {
		p.updated = now
		return
	}
	if p.startup {
		if rtt-base <= target || p.rate == 0 {
			p.late = 0
		} else if p.late++; p.late >= 2 {
			p.startup = false
			p.rate = p.settledRate()
			p.window = max(minWindow, p.window/2, p.rate*(base+target).Seconds())
		}
		p.updated = now
		return
	}
	steps := min(now.Sub(p.updated).Seconds()/(base+q).Seconds(), 2)
	p.updated = now
	off := max(-2, min(1, float64(target-q)/float64(target)))
	if off > 0 && !p.full {
		return
	}
	p.full = false
	gain := steadyGain
	if q > target/4 {
		p.idle = 0
	} else if p.idle++; p.idle > idlePings {
		gain = quickGain // there is a lot to win
	}
	p.window = min(max(p.window*(1+gain*off*steps), minWindow), p.ceiling())
}

// settledRate is that of the last quarter of a second.
func (p *pacer) settledRate() float64 {
	sum := 0
	for _, v := range p.acked[1:6] {
		sum += v
	}
	return max(float64(sum)/(5*rateSlot).Seconds(), p.rate/2)
}

// ceiling keeps the window from growing without need where something else than the queue is the limit, as loss: all that is in it could come at
// once. At the start it may double with each round trip.
func (p *pacer) ceiling() float64 {
	trip := (p.baseRTT() + p.target()).Seconds()
	if p.startup {
		return min(2.2*p.rate*trip+startWindow, maxWindowAll)
	}
	return min(1.1*p.rate*trip+float64(2*minWindow+p.lanes*laneSpare), maxWindowAll)
}

// onAck takes n bytes that arrived.
func (p *pacer) onAck(n int, now time.Time) {
	for now.After(p.rateAt) {
		p.measure(now)
	}
	p.acked[0] += n
	if p.startup && float64(p.inflight+n) > p.window*0.7 {
		p.window = min(p.window+float64(n)*startupGain, p.ceiling())
	}
}

// measure ends a slot of the rate. At the start, when it doubles with each round trip, only the last slots count.
func (p *pacer) measure(now time.Time) {
	slots := rateSlots
	if p.startup {
		slots = 2
	}
	sum := 0
	for _, v := range p.acked[:slots] {
		sum += v
	}
	seen := float64(sum) / (float64(slots) * rateSlot.Seconds())
	if seen >= p.rate || now.Sub(p.rateTop) > rateKept && p.busy >= rateSlots {
		p.rate, p.rateTop = seen, now
	}
	if p.full {
		p.busy++
	} else {
		p.busy = 0
	}
	copy(p.acked[1:], p.acked[:])
	p.acked[0] = 0
	p.rateAt = p.rateAt.Add(rateSlot)
	if now.Sub(p.rateAt) > rateSlots*rateSlot {
		p.acked = [rateSlots]int{}
		p.rateAt = now.Add(rateSlot)
	}
}

// line is the estimated rate of the line in bytes/s.
func (p *pacer) line() float64 {
	if p.rate < 1000 || (p.startup && p.rate < initialRate && p.busy < rateSlots) {
		return initialRate
	}
	return p.rate
}

// room reports whether more may be sent. If not, wait is when to ask again; 0 means after the next acknowledgment.
func (p *pacer) room(now time.Time, urgent bool) (ok bool, wait time.Duration) {
	w := p.window
	if now.Before(p.probeEnd) {
		w /= 2
	}
	if urgent {
		w += minWindow
	}
	if float64(p.inflight) >= w {
		p.full = true
		return false, 0
	}
	gain := paceGain
	if p.startup {
		gain = paceStartup
	}
	rate := max(p.rate, startWindow/2/max(p.baseRTT(), 10*time.Millisecond).Seconds()) * gain
	depth := max(rate*chunkTime.Seconds(), 2*minChunk)
	p.credit = min(p.credit+now.Sub(p.creditAt).Seconds()*rate, depth)
	p.creditAt = now
	if p.credit > 0 {
		return true, 0
	}
	return false, time.Duration((1-p.credit)/rate*float64(time.Second)) + time.Millisecond
}

func (p *pacer) sent(n int) {
	p.inflight += n
	p.credit -= float64(n)
}

// pingEvery is the time between pings while chunks are under way. They take less than half a percent of a line of 10 Mbit/s.
func (p *pacer) pingEvery() time.Duration {
	if p.startup {
		return startupPing
	}
	return min(max(p.baseRTT()/2, minPing), maxPing)
}

// chunk is how much data one chunk may have.
func (p *pacer) chunk() int {
	return max(minChunk, min(maxChunk, int(p.line()*chunkTime.Seconds())))
}
