package transfer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

const (
	// silence is how long the receiver may say nothing on lane 0, idlePing how often it is asked when nothing else is under way.
	silence  = 30 * time.Second
	idlePing = 10 * time.Second
	// stuckAfter is how long a chunk may be under way.
	stuckAfter = 40 * time.Second
	// firstLanes are opened at once, one more for each laneShare of what the line is known to hold; another one after each laneWait in which
	// the line was not full.
	firstLanes = 4
	laneShare  = 48 << 10
	laneWait   = 250 * time.Millisecond
	laneRetry  = time.Minute // after one could not be opened
	maxPings   = 64
	// keepEvery is the longest pause until the Outbox is asked again to keep what it could not; the first is SenderConfig.RetryMin.
	keepEvery = idlePing
)

// outLane is one connection.
type outLane struct {
	n    int
	conn net.Conn
	in   *frameReader

	writing sync.Mutex

	// Locked by the session:
	sent    []sentChunk // not acknowledged
	acked   uint64
	unacked int // bytes
}

type sentChunk struct {
	n  int
	at time.Time
}

// write writes whole frames.
func (l *outLane) write(b []byte) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	return writeAll(l.conn, b)
}

// send moves chunks to the lane until the session ends.
func (l *outLane) send(o *outSession) {
	var b []byte
	for {
		c, ok := o.next(l)
		if !ok {
			return
		}
		b = appendFrame(b[:0], c)
		if err := l.write(b); err != nil {
			o.end(err)
			return
		}
	}
}

// listen reads the acknowledgments of a lane for chunks.
func (l *outLane) listen(o *outSession) error {
	for {
		m, err := l.in.next()
		if err != nil {
			return fmt.Errorf("listen to the far gateway on lane %d: %w", l.n, err)
		}
		a, ok := m.(ack)
		if !ok {
			return fmt.Errorf("%w: kind %d on a lane for chunks", errMalformed, m.kind())
		}
		if err := o.acked(l, a.chunks); err != nil {
			return err
		}
	}
}

// next waits until a lane may send, and takes the most urgent chunk, or a routine one whose turn it is.
func (o *outSession) next(l *outLane) (chunk, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for !o.ended() {
		least := 0
		if l.n == 0 && (len(o.lanes) > 1 || o.opening > 0 || o.opened == 1 && o.s.cfg.Lanes > 1) {
			least = Urgent
		}
		if p := o.ready.turn(least); p >= least {
			now := time.Now()
			limit := o.s.limit()
			wait := o.bucket.wait(limit, now)
			if wait > 0 {
				o.alarmLocked(&o.laneAlarm, wait)
			} else if l.unacked < o.laneWindow() && !l.stalled(now, o.pace) {
				o.pace.inflight = o.inflightLocked(now)
				ok, wait := o.pace.room(now, p >= Urgent)
				if ok {
					return o.takeLocked(l, p, now, limit), true
				}
				if wait > 0 {
					o.alarmLocked(&o.laneAlarm, wait)
				}
			}
		}
		o.cond.Wait()
	}
	return chunk{}, false
}

// takeLocked takes a chunk of a priority for a lane.
func (o *outSession) takeLocked(l *outLane, p int, now time.Time, limit int64) chunk {
	size := o.pace.chunk()
	if limit > 0 {
		size = min(size, max(minChunk, int(float64(limit)*burst.Seconds())))
	}
	o.feelLocked(now)
	c := o.ready.pop(p, size)
	n := len(c.data)
	o.pace.sent(n)
	o.bucket.spend(n)
	l.unacked += n
	l.sent = append(l.sent, sentChunk{n, now})
	o.cond.Broadcast()
	return c
}

// stalled reports whether a lane waits for a packet that was lost.
func (l *outLane) stalled(now time.Time, p *pacer) bool {
	return len(l.sent) > 0 && now.Sub(l.sent[0].at) > 2*p.baseRTT()+2*maxTarget
}

// inflightLocked is how much is under way. What waits in a stalled lane is not on the line, and must not keep the other lanes from using it.
func (o *outSession) inflightLocked(now time.Time) (n int) {
	for _, l := range o.lanes {
		if !l.stalled(now, o.pace) {
			n += l.unacked
		}
	}
	return n
}

// laneWindow keeps a lane that lost packets from holding more than its share.
func (o *outSession) laneWindow() int {
	return max(2*o.pace.chunk(), 2*int(o.pace.window)/max(1, len(o.lanes)-1))
}

// acked takes a lane's count of chunks that arrived.
func (o *outSession) acked(l *outLane, count uint64) error {
	now := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	n := count - l.acked
	if count < l.acked || n > uint64(len(l.sent)) {
		return fmt.Errorf("%w: an acknowledgment of chunk %d", errMalformed, count)
	}
	sum := 0
	for _, c := range l.sent[:n] {
		sum += c.n
	}
	l.sent = l.sent[n:]
	o.feelLocked(now)
	l.acked = count
	l.unacked -= sum
	o.pace.inflight = o.inflightLocked(now)
	o.pace.onAck(sum, now)
	o.lineBytes += int64(sum)
	o.cond.Broadcast()
	return nil
}

func (o *outSession) pong(n uint64) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	at, ok := o.pings[n]
	if !ok {
		return fmt.Errorf("%w: an answer to no ping", errMalformed)
	}
	delete(o.pings, n)
	now := time.Now()
	o.pace.onRTT(now.Sub(at), now)
	o.cond.Broadcast()
	return nil
}

// steer pings, opens lanes and watches over them.
func (o *outSession) steer(ctx context.Context, wg *sync.WaitGroup) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	again := keepPause{min: o.s.cfg.RetryMin}
	for {
		select {
		case <-timer.C:
		case <-o.kick:
		case <-o.over:
			return
		}
		now := time.Now()
		wait, err := o.tick(now)
		if err != nil {
			o.end(err)
			return
		}
		keep, due := again.next(o.keeps(), now)
		timer.Reset(min(wait, keep))
		if due {
			o.keepAgain()
		}
		for wait < idlePing {
			n, ok := o.reserveLane(now)
			if !ok {
				break
			}
			wg.Go(func() { o.openLane(ctx, n, wg) })
		}
	}
}

// tick pings and returns when to do so again.
func (o *outSession) tick(now time.Time) (time.Duration, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, l := range o.lanes {
		if len(l.sent) > 0 && now.Sub(l.sent[0].at) > stuckAfter {
			return 0, errors.New("the far gateway takes nothing any more")
		}
	}
	if len(o.pings) < maxPings {
		o.ping++
		o.pings[o.ping] = now
		o.out.put(number{kindPing, o.ping})
	}
	if o.unackedLocked() > 0 || o.ready.bytes > 0 || len(o.making) > 0 || o.inWork > 0 || o.pace.samples < recentRTTs {
		return o.pace.pingEvery(), nil
	}
	return idlePing, nil
}

// learned returns what the session knows of the line.
func (o *outSession) learned() knownLine {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.pace.learned(time.Now())
}

func (o *outSession) unackedLocked() (n int) {
	for _, l := range o.lanes {
		n += l.unacked
	}
	return n
}

// reserveLane gives the number of another lane if that may make it faster: there is more to send, and the queue in front of the line is short.
func (o *outSession) reserveLane(now time.Time) (n int, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.opened >= o.s.cfg.Lanes || now.Before(o.laneAt) || o.opened >= o.first && (o.opening > 0 || o.ready.bytes == 0 ||
		o.pace.queueing() >= o.pace.target()/2) {
		return 0, false
	}
	if o.opened >= o.first {
		o.laneAt = now.Add(laneWait)
	}
	o.opening++
	o.opened++
	return o.opened - 1, true
}

func (o *outSession) openLane(ctx context.Context, n int, wg *sync.WaitGroup) {
	l, _, err := o.dial(ctx, n)
	o.mu.Lock()
	defer o.mu.Unlock()
	defer o.cond.Broadcast()
	o.opening--
	if err != nil {
		// One of the others, or lane 0 alone, does the work.
		o.s.log.Debug("another lane could not be opened", "error", err)
		o.laneAt = time.Now().Add(laneRetry)
		return
	}
	if o.ended() {
		l.conn.Close()
		return
	}
	o.lanes = append(o.lanes, l)
	o.pace.lanes = len(o.lanes)
	wg.Go(func() { l.send(o) })
	wg.Go(func() { o.end(l.listen(o)) })
}

func (o *outSession) progress(p *Progress) {
	o.mu.Lock()
	defer o.mu.Unlock()
	p.Connected, p.Offered, p.Lanes = true, len(o.items), len(o.lanes)
	p.Rate, p.Window = o.pace.rate, int(o.pace.window)
	p.RTT, p.Queueing = o.pace.baseRTT(), 0
	if o.pace.samples > 0 {
		p.Queueing = o.pace.queueing()
	}
	p.LineBytes += o.lineBytes
}
