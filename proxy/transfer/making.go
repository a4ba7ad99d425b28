package transfer

import (
	"errors"
	"slices"
	"time"

	"github.com/towpath/towpath/proxy/spool"
)

// block is a part of a payload ready to be sent.
type block struct {
	it     *outItem
	offset int64
	size   int
	method method
	data   []byte
	sent   int
}

// readyQueue holds blocks by priority, each in the order in which they were made.
type readyQueue struct {
	queues [MaxPriority + 1][]*block
	bytes  int // not sent yet
	urgent int // of these, at Urgent and above
	passed int // urgent chunks in a row
}

func (q *readyQueue) push(b *block) {
	p := b.it.item.Priority
	q.queues[p] = append(q.queues[p], b)
	q.count(p, len(b.data))
}

func (q *readyQueue) count(priority, n int) {
	q.bytes += n
	if priority >= Urgent {
		q.urgent += n
	}
}

// top is the highest priority there is, -1 if nothing is ready.
func (q *readyQueue) top() int {
	for p := MaxPriority; p >= 0; p-- {
		if len(q.queues[p]) > 0 {
			return p
		}
	}
	return -1
}

// turn is the priority that goes next, of those of least and above; below least if there is none.
func (q *readyQueue) turn(least int) int {
	p := q.top()
	if p < Urgent || least > 0 || q.passed < routineTurn {
		return p
	}
	for routine := Urgent - 1; routine >= 0; routine-- {
		if len(q.queues[routine]) > 0 {
			return routine
		}
	}
	return p
}

// pop takes at most n bytes of the first block of a priority that has one.
func (q *readyQueue) pop(p, n int) chunk {
	if q.passed++; p < Urgent {
		q.passed = 0
	}
	b := q.queues[p][0]
	n = min(n, len(b.data)-b.sent)
	c := chunk{
		handle: b.it.handle, offset: b.offset, size: uint32(b.size), coded: uint32(len(b.data)), at: uint32(b.sent), method: b.method,
		data: b.data[b.sent : b.sent+n],
	}
	b.sent += n
	q.count(p, -n)
	if b.sent == len(b.data) {
		q.queues[p][0] = nil
		q.queues[p] = q.queues[p][1:]
	}
	return c
}

// drop forgets the blocks of an item.
func (q *readyQueue) drop(it *outItem) {
	p := it.item.Priority
	q.queues[p] = slices.DeleteFunc(q.queues[p], func(b *block) bool {
		if b.it != it {
			return false
		}
		q.count(p, b.sent-len(b.data))
		return true
	})
}

// speed is what the codec has done of late.
type speed struct {
	nsPerByte float64 // of original, with verification
	ratio     float64
	far       float64 // nanoseconds for each byte of original that the receiver takes to decode; 0 if it has not said
	farAt     time.Time
	best      float64 // rate of the line in bytes/s, the highest of late; 0 before it was measured
	bestAt    time.Time
}

func newSpeed() speed { return speed{nsPerByte: 30, ratio: 2} }

func (s *speed) learn(size, coded int, took time.Duration) {
	const weight = 0.1
	s.nsPerByte += weight * (float64(took.Nanoseconds())/float64(size) - s.nsPerByte)
	s.ratio += weight * (max(1.05, float64(size)/float64(max(coded, 1))) - s.ratio)
}

// worthwhile reports whether a block arrives sooner encoded than raw, behind queued bytes on a line of rate bytes/s.
func (s *speed) worthwhile(size, queued int, rate float64) bool {
	n := float64(size)
	queue, encode := float64(queued)/rate, n*s.nsPerByte/1e9
	return max(queue, encode)+n/s.ratio/rate <= queue+n/rate
}

// hidden reports whether a block is encoded before what is queued has left, with time to spare.
func (s *speed) hidden(size, queued int, rate float64) bool {
	return float64(queued)/rate > 1.5*float64(size)*s.nsPerByte/1e9
}

// hunger is for how long the line waited for blocks while there was something to make them of.
type hunger struct {
	at           time.Time
	work, hungry time.Duration
	bound        time.Time // until then the processor counts as slower than the line
}

const (
	hungerTime = 100 * time.Millisecond
	hungerPart = 3
	hungerMax  = time.Second
	boundFor   = 5 * time.Second
)

// feelLocked takes the time since the last call into account. Call it before what it looks at changes.
func (o *outSession) feelLocked(now time.Time) {
	h := &o.hunger
	passed := now.Sub(h.at)
	h.at = now
	if len(o.making) == 0 && o.inWork == 0 {
		return
	}
	h.work += passed
	if o.ready.bytes == 0 && float64(o.pace.inflight) < 0.9*o.pace.window {
		h.hungry += passed
	}
}

// encodeLocked decides about a block. Where the processor was slower than the line, a block is encoded only while others keep the line busy.
func (o *outSession) encodeLocked(size int) bool {
	now := time.Now()
	o.feelLocked(now)
	h := &o.hunger
	if h.hungry > hungerTime && h.hungry > h.work/hungerPart {
		h.bound = now.Add(boundFor)
	}
	if h.work > hungerMax {
		h.work, h.hungry = 0, 0
	}
	if !o.pace.startup {
		o.speed.line(o.pace.rate, now)
	}
	if !o.speed.keepsUp(now) {
		return false
	}
	if now.Before(h.bound) {
		return o.speed.hidden(size, o.ready.bytes, o.pace.line())
	}
	return o.speed.worthwhile(size, o.ready.bytes, o.pace.line())
}

// How many bytes may be ready ahead of the line: what it carries in aheadTime, within bounds.
const (
	aheadTime = 400 * time.Millisecond
	minReady  = 1 << 20
	maxReady  = 16 << 20
)

// make opens sources and makes blocks until the session ends.
func (o *outSession) make() {
	for {
		it, i := o.pick()
		switch {
		case it == nil:
			return
		case i < 0:
			o.openItem(it)
		default:
			o.makeBlock(it, i)
		}
	}
}

// pick waits for work. A negative block means that the source is to be opened.
func (o *outSession) pick() (it *outItem, block int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for !o.ended() {
		if it := o.starvedLocked(); it != nil {
			return o.workLocked(it)
		}
		for _, it := range o.making {
			if !o.mayMakeLocked(it) {
				break
			}
			if it.opening {
				continue
			}
			return o.workLocked(it)
		}
		o.cond.Wait()
	}
	return nil, 0
}

// workLocked takes the next work on an item, see pick.
func (o *outSession) workLocked(it *outItem) (*outItem, int) {
	if it.src == nil {
		it.opening = true
		return it, -1
	}
	i := it.next
	it.next++
	it.working++
	_, size := it.src.block(i)
	o.inWork += int64(size)
	if it.next == it.src.blocks() {
		o.making = slices.DeleteFunc(o.making, func(x *outItem) bool { return x == it })
	}
	return it, i
}

// mayMakeLocked bounds what is made ahead of the line. Urgent items do not wait for the others' share.
func (o *outSession) mayMakeLocked(it *outItem) bool {
	limit := max(minReady, min(maxReady, int(o.pace.line()*aheadTime.Seconds())))
	if it.item.Priority >= Urgent {
		return o.ready.urgent < limit
	}
	return o.ready.bytes+int(o.inWork) < limit
}

func (o *outSession) openItem(it *outItem) {
	c := o.s.cfg.Codec
	if !o.codec {
		c = nil
	}
	src, err := openSource(it.parcel, c)
	o.mu.Lock()
	it.opening = false
	if err != nil {
		o.failLocked(it, err)
		o.mu.Unlock()
		return
	}
	if it.ended {
		src.close()
		o.mu.Unlock()
		return
	}
	for i := range src.blocks() {
		offset, size := src.block(i)
		if it.next = i; offset+int64(size) > it.from {
			break
		}
	}
	it.src = src
	o.cond.Broadcast()
	o.mu.Unlock()
}

// failLocked ends an item whose payload cannot be read.
func (o *outSession) failLocked(it *outItem, err error) {
	if it.ended || o.ended() {
		return
	}
	o.removeLocked(it)
	o.out.put(number{kindAbandon, it.handle})
	o.late.Go(func() {
		o.settles <- struct{}{}
		o.settle(func() error {
			if errors.Is(err, spool.ErrCorrupt) || errors.Is(err, ErrDamaged) {
				return it.parcel.Park(err)
			}
			return it.parcel.Retry(err)
		})
	})
}

func (o *outSession) makeBlock(it *outItem, i int) {
	o.mu.Lock()
	src := it.src
	offset, size := src.block(i)
	encode := src.enc != nil && o.encodeLocked(size)
	o.mu.Unlock()
	b := &block{it: it, offset: offset, size: size}
	var faulty bool
	var err error
	begun := time.Now()
	if encode {
		b.method = methodCodec
		b.data, faulty, err = src.enc.AppendVerified(make([]byte, 0, size/2), i)
	}
	took := time.Since(begun)
	coded := len(b.data)
	if err == nil && (!encode || coded >= size) {
		b.method = methodRaw
		b.data, err = src.raw(i)
	}
	if faulty {
		o.s.log.Error("the codec has an error: a block did not decode to its original and is sent as it is. Please report this", "item", it.item.ID)
	}
	o.s.count(func(t *Totals) {
		if b.method == methodCodec {
			t.EncodedBlocks++
		} else {
			t.RawBlocks++
		}
		if faulty {
			t.FaultyBlocks++
		}
	})
	o.mu.Lock()
	defer o.mu.Unlock()
	o.feelLocked(time.Now())
	it.working--
	o.inWork -= int64(size)
	if encode && err == nil {
		o.speed.learn(size, coded, took)
	}
	if err != nil {
		o.failLocked(it, err)
	} else if !it.ended {
		o.ready.push(b)
	}
	if it.working == 0 && it.src != nil && (it.ended || it.next == it.src.blocks()) {
		it.src.close()
		it.src = nil
	}
	o.cond.Broadcast()
}
