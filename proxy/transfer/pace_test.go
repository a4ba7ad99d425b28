package transfer

import (
	"testing"
	"time"
)

// lineModel is a line with a drop-free queue, and what a pacer does on it.
type lineModel struct {
	rate       float64 // bytes/s
	rtt        time.Duration
	now        time.Time
	free       time.Time // when the line has sent all
	acks       []modelAck
	pings      []modelAck
	queue, max time.Duration
	delivered  int
}

type modelAck struct {
	at   time.Time
	n    int
	sent time.Time
}

func (l *lineModel) send(n int) time.Time {
	if l.free.Before(l.now) {
		l.free = l.now
	}
	l.queue = l.free.Sub(l.now)
	l.max = max(l.max, l.queue)
	l.free = l.free.Add(time.Duration(float64(n) / l.rate * float64(time.Second)))
	return l.free.Add(l.rtt)
}

// run lets the pacer fill the line for a while, a chunk as soon as there is room.
func (l *lineModel) run(p *pacer, d time.Duration) (used float64) {
	begin, start := l.now, l.delivered
	nextPing := l.now
	for l.now.Sub(begin) < d {
		for {
			if ok, _ := p.room(l.now, false); !ok {
				break
			}
			n := p.chunk()
			p.sent(n)
			l.acks = append(l.acks, modelAck{l.send(n), n, l.now})
		}
		if !l.now.Before(nextPing) {
			l.pings = append(l.pings, modelAck{l.send(100), 0, l.now})
			nextPing = l.now.Add(p.pingEvery())
		}
		l.now = l.now.Add(time.Millisecond)
		for len(l.acks) > 0 && !l.acks[0].at.After(l.now) {
			p.inflight -= l.acks[0].n
			p.onAck(l.acks[0].n, l.now)
			l.delivered += l.acks[0].n
			l.acks = l.acks[1:]
		}
		for len(l.pings) > 0 && !l.pings[0].at.After(l.now) {
			p.onRTT(l.now.Sub(l.pings[0].sent), l.now)
			l.pings = l.pings[1:]
		}
	}
	return float64(l.delivered-start) / d.Seconds() / l.rate
}

// The line is full and its queue short, at any rate and distance, also after the line has become slower or faster.
func TestPacer(t *testing.T) {
	for _, c := range []struct {
		mbit float64
		rtt  time.Duration
	}{{2, 30 * time.Millisecond}, {10, 40 * time.Millisecond}, {10, 150 * time.Millisecond}, {50, 20 * time.Millisecond}, {200, 60 * time.Millisecond}} {
		l := &lineModel{rate: c.mbit * 125_000, rtt: c.rtt, now: time.Unix(1000, 0)}
		p := newPacer(l.now)
		l.run(p, 10*time.Second)
		if p.startup {
			t.Errorf("%+v: never found the line: %+v", c, p.window)
		}
		check := func(when string) {
			l.max = 0
			used := l.run(p, 40*time.Second)
			limit := p.target() + 15*time.Millisecond + time.Duration(float64(2*p.chunk())/l.rate*float64(time.Second))
			limit = max(limit, time.Duration(float64(minWindow)/l.rate*float64(time.Second))+5*time.Millisecond)
			if used < 0.95 || l.max > limit {
				t.Errorf("%+v %s: %.3f of the line used, queue up to %v, allowed %v, window %d", c, when, used, l.max, limit, int(p.window))
			}
		}
		check("at first")
		l.rate /= 2
		l.run(p, 30*time.Second)
		check("at half the rate")
		l.rate *= 4
		l.run(p, 60*time.Second)
		check("at twice the rate")
	}
}

// A longer way is learned within minutes: the shortest time of before is forgotten.
func TestPacerForgetsTheOldWay(t *testing.T) {
	l := &lineModel{rate: 1_250_000, rtt: 20 * time.Millisecond, now: time.Unix(1000, 0)}
	p := newPacer(l.now)
	l.run(p, 20*time.Second)
	l.rtt = 120 * time.Millisecond
	l.run(p, baseSlots*baseSlot+time.Minute)
	if used := l.run(p, 20*time.Second); used < 0.95 || p.baseRTT() < l.rtt {
		t.Errorf("%.2f of the line used, base %v", used, p.baseRTT())
	}
}

func TestBucket(t *testing.T) {
	now := time.Unix(1000, 0)
	var b bucket
	const limit = 100_000
	sent := 0
	for end := now.Add(10 * time.Second); now.Before(end); {
		if wait := b.wait(limit, now); wait > 0 {
			now = now.Add(wait)
			continue
		}
		b.spend(8000)
		sent += 8000
	}
	if sent < 10*limit-16000 || sent > 10*limit+16000 {
		t.Errorf("%d bytes in 10 s at %d/s", sent, limit)
	}
	if b.wait(0, now) != 0 {
		t.Error("no limit and yet a wait")
	}
}

func TestSchedule(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skip(err)
	}
	s := Schedule{
		BytesPerSecond: 500_000, Location: berlin,
		Windows: []Window{
			{Days: []time.Weekday{time.Friday}, From: 22 * time.Hour, To: 6 * time.Hour},
			{From: 8 * time.Hour, To: 18 * time.Hour, BytesPerSecond: 100_000},
		},
	}
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	at := func(day, hour, minute int) time.Time { return time.Date(2026, 11, day, hour, minute, 0, 0, berlin) } // the 20th is a Friday
	for _, c := range []struct {
		at   time.Time
		want int64
	}{
		{at(20, 7, 59), 500_000},
		{at(20, 8, 0), 100_000},
		{at(20, 17, 59), 100_000},
		{at(20, 18, 0), 500_000},
		{at(20, 22, 0), 0},
		{at(21, 5, 59), 0},
		{at(21, 6, 0), 500_000},
		{at(21, 22, 0), 500_000},
		{at(22, 3, 0), 500_000},
		{at(20, 7, 30).UTC(), 500_000},
		{at(20, 9, 0).UTC(), 100_000},
	} {
		if got := s.Limit(c.at); got != c.want {
			t.Errorf("%v: %d, want %d", c.at, got, c.want)
		}
	}
	for _, bad := range []Schedule{
		{BytesPerSecond: 5},
		{BytesPerSecond: -1},
		{Windows: []Window{{From: 25 * time.Hour}}},
		{Windows: []Window{{To: -1}}},
		{Windows: []Window{{Days: []time.Weekday{7}}}},
	} {
		if bad.Validate() == nil {
			t.Errorf("%+v is fine", bad)
		}
	}
}

// The codec is used where it makes blocks arrive sooner, and only there.
func TestWorthwhile(t *testing.T) {
	s := speed{nsPerByte: 25, ratio: 3} // 40 MB/s
	for _, c := range []struct {
		queued int
		rate   float64
		want   bool
	}{
		{0, 1.25e6, true},      // 10 Mbit/s
		{0, 12.5e6, true},      // 100 Mbit/s
		{0, 125e6, false},      // 1 Gbit/s and nothing waits: encoding would leave the line idle
		{4 << 20, 125e6, true}, // the line is busy meanwhile
	} {
		if got := s.worthwhile(500_000, c.queued, c.rate); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
	if !s.hidden(500_000, 4<<20, 125e6) || s.hidden(500_000, 2<<20, 125e6) {
		t.Error("33 ms of the line hide 13 ms of the processor, 17 ms do not with time to spare")
	}
	for range 100 {
		s.learn(1000, 1000, time.Millisecond)
	}
	if s.ratio > 1.1 || s.nsPerByte < 900 {
		t.Errorf("learned %+v", s)
	}
}
