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

// A session that begins with what the one before knew fills the line from its first round trips on, also a line that has changed since, and
// what is too old is not believed.
func TestPacerRecalls(t *testing.T) {
	for _, c := range []struct {
		mbit, factor float64
		rtt          time.Duration
		least        float64 // of the line, used in the first four seconds
	}{
		{40, 1, 150 * time.Millisecond, 0.9},
		{10, 1, 40 * time.Millisecond, 0.93},
		{10, 0.5, 60 * time.Millisecond, 0.9},
		{10, 4, 60 * time.Millisecond, 0.3},
	} {
		before := &lineModel{rate: c.mbit * 125_000, rtt: c.rtt, now: time.Unix(1000, 0)}
		p := newPacer(before.now)
		if k := p.learned(before.now); k.rate != 0 {
			t.Fatalf("%+v: a session that has sent nothing knows %+v", c, k)
		}
		for p.rate == 0 {
			before.run(p, 10*time.Millisecond)
		}
		if k := p.learned(before.now); !p.startup || k.rate != 0 {
			t.Errorf("%+v: a session that is still finding out has a rate of %v and knows %+v", c, p.rate, k)
		}
		before.run(p, 30*time.Second)
		known := p.learned(before.now)

		l := &lineModel{rate: c.factor * before.rate, rtt: c.rtt, now: before.now.Add(knownFor)}
		again, anew := newPacer(l.now), newPacer(l.now)
		again.recall(known, l.now)
		if used := l.run(again, 4*time.Second); used < c.least {
			t.Errorf("%+v: %.2f of the line used at first", c, used)
		}
		if l.run(again, 20*time.Second); c.factor > 1 {
			l.run(again, 40*time.Second)
		}
		l.max = 0
		used := l.run(again, 10*time.Second)
		limit := again.target() + 15*time.Millisecond + time.Duration(float64(2*again.chunk())/l.rate*float64(time.Second))
		if used < 0.93 || l.max > limit {
			t.Errorf("%+v: %.2f of the line used later, queue up to %v, allowed %v", c, used, l.max, limit)
		}

		anew.recall(known, before.now.Add(knownFor+time.Nanosecond))
		if !anew.startup || anew.window != startWindow {
			t.Errorf("%+v: what is more than an hour old is believed", c)
		}
	}
}

// The Sender carries it from one session to the next, and one that has found out nothing takes nothing away.
func TestSenderRemembersTheLine(t *testing.T) {
	now := time.Now()
	s := &Sender{cfg: SenderConfig{Lanes: DefaultLanes}}
	l := &lineModel{rate: 5e6, rtt: 100 * time.Millisecond, now: now.Add(-time.Minute)}
	first := newOutSession(s)
	if first.first != firstLanes || !first.pace.startup {
		t.Errorf("the first session begins with %d lanes, startup %v", first.first, first.pace.startup)
	}
	first.pace = newPacer(l.now)
	l.run(first.pace, 20*time.Second)
	s.remember(first)
	s.remember(newOutSession(&Sender{cfg: s.cfg}))
	second := newOutSession(s)
	if second.pace.rate != first.pace.rate || second.pace.startup || second.first != DefaultLanes {
		t.Errorf("rate %v after %v, startup %v, %d lanes", second.pace.rate, first.pace.rate, second.pace.startup, second.first)
	}
}
