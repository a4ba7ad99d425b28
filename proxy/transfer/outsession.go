package transfer

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/towpath/towpath/proxy/spool"
)

// outItem is an item under way in one session.
type outItem struct {
	parcel Parcel
	item   Item
	handle uint64
	from   int64 // the receiver has what is before

	// Locked by the session:
	asked   bool // the receiver wants it
	src     *source
	next    int  // block
	opening bool // a worker opens src
	working int  // workers at its blocks
	ended   bool // no more blocks shall be made
	final   *Receipt
}

// outSession is one connection with the far gateway, from the first lane to the last.
type outSession struct {
	s       *Sender
	id      [16]byte
	codec   bool
	ahead   int
	peerKey ed25519.PublicKey
	out     *outbound
	settles chan struct{} // a place for each receipt being kept
	late    sync.WaitGroup

	mu                   sync.Mutex
	cond                 *sync.Cond // anything below changed
	over                 chan struct{}
	err                  error
	lanes                []*outLane
	opened               int       // lanes asked for, with lane 0
	first                int       // lanes that are opened at once, with lane 0
	opening              int       // of these, not answered yet
	laneAt               time.Time // no other lane before
	items                map[uint64]*outItem
	byID                 map[string]*outItem // of items and held, and those being carried
	unkept               map[string]Receipt  // final ones that the Outbox could not keep
	held                 []*outItem          // not offered yet: most urgent first
	hunger               hunger
	bytes                int64 // of items
	handle               uint64
	making               []*outItem // wanted, with blocks left to make: most urgent first
	ready                readyQueue
	pace                 *pacer
	bucket               bucket
	speed                speed
	inWork               int64     // bytes of blocks being made
	lineBytes            int64     // of chunks that arrived
	pause                time.Time // no offers before: the receiver is full
	pings                map[uint64]time.Time
	feedAlarm, laneAlarm *time.Timer
	ping                 uint64
	kick                 chan struct{} // capacity 1: there is work
}

func newOutSession(s *Sender) *outSession {
	s.mu.Lock()
	known := s.known
	s.mu.Unlock()
	o := &outSession{
		s: s, out: newOutbound(), settles: make(chan struct{}, settling), over: make(chan struct{}),
		items: map[uint64]*outItem{}, byID: map[string]*outItem{}, unkept: map[string]Receipt{}, pings: map[uint64]time.Time{}, opened: 1, kick: make(chan struct{}, 1), pace: newPacer(time.Now()), speed: newSpeed(),
	}
	o.pace.recall(known, time.Now())
	o.first = min(firstLanes+int(known.trip()/laneShare), s.cfg.Lanes)
	_, _ = rand.Read(o.id[:]) // never fails
	o.cond = sync.NewCond(&o.mu)
	return o
}

// end ends the session once; the first error counts.
func (o *outSession) end(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.endLocked(err)
}

func (o *outSession) endLocked(err error) {
	select {
	case <-o.over:
		return
	default:
	}
	o.err = err
	close(o.over)
	for _, l := range o.lanes {
		l.conn.Close()
	}
	o.cond.Broadcast()
}

func (o *outSession) ended() bool {
	select {
	case <-o.over:
		return true
	default:
		return false
	}
}

func (o *outSession) wakeAll() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.offerLocked()
	o.cond.Broadcast()
}

// run works until the session ends, and gives back to the Outbox what is under way.
func (o *outSession) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { o.end(context.Cause(ctx)) })
	defer stop()
	feed, cancel := context.WithCancel(ctx)
	defer cancel()
	carried, err := o.s.cfg.Outbox.Carried()
	if err != nil {
		o.end(err)
	}
	var wg sync.WaitGroup
	first := o.lanes[0]
	wg.Go(func() {
		if err := o.out.run(first.write, o.over); err != nil {
			o.end(err)
		}
	})
	wg.Go(func() { o.end(o.control(first)) })
	wg.Go(func() { first.send(o) })
	for range o.s.cfg.Workers {
		wg.Go(o.make)
	}
	wg.Go(func() {
		for _, c := range carried {
			o.out.put(named{kindAsk, c.ID, c.SHA256, 0})
		}
		o.end(o.feed(feed))
	})
	wg.Go(func() { o.steer(ctx, &wg) })
	<-o.over
	cancel()
	wg.Wait()
	o.late.Wait()
	o.giveBack()
	return o.err
}

func (o *outSession) giveBack() {
	for _, t := range []*time.Timer{o.feedAlarm, o.laneAlarm} {
		if t != nil {
			t.Stop()
		}
	}
	for _, it := range slices.AppendSeq(o.held, maps.Values(o.items)) {
		if it.src != nil {
			it.src.close()
		}
		if err := it.parcel.Retry(spool.ErrCalledOff); err != nil {
			o.s.log.Warn("an item could not be given back", "item", it.item.ID, "error", err)
		}
	}
}

// control reads what the receiver says on lane 0.
func (o *outSession) control(l *outLane) error {
	for {
		_ = l.conn.SetReadDeadline(time.Now().Add(silence))
		m, err := l.in.next()
		if err != nil {
			if errors.Is(err, io.EOF) {
				return errors.New("the far gateway has ended the session")
			}
			return fmt.Errorf("listen to the far gateway: %w", err)
		}
		if err := o.heed(l, m); err != nil {
			return err
		}
	}
}

func (o *outSession) heed(l *outLane, m message) error {
	switch m := m.(type) {
	case want:
		return o.wanted(m)
	case refuse:
		o.refused(m)
		return nil
	case ack:
		return o.acked(l, m.chunks)
	case signed:
		return o.receipt(m)
	case named:
		if m.k == kindUnknown {
			o.unknown(m)
			return nil
		}
		if m.k == kindHeld {
			return nil
		}
	case number:
		if m.k == kindPong {
			return o.pong(m.n)
		}
		if m.k == kindDecoding {
			o.mu.Lock()
			o.speed.heard(m.n, time.Now())
			o.mu.Unlock()
			return nil
		}
	}
	return fmt.Errorf("%w: kind %d from a receiver", errMalformed, m.kind())
}

// wanted begins with the blocks of an item.
func (o *outSession) wanted(m want) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	it := o.items[m.handle]
	if it == nil {
		return nil
	}
	if m.offset >= it.item.Size || it.asked {
		return fmt.Errorf("%w: an item is wanted twice or from beyond its end", errMalformed)
	}
	it.asked, it.from = true, m.offset
	at, _ := slices.BinarySearchFunc(o.making, it, byTurn)
	o.feelLocked(time.Now())
	o.making = slices.Insert(o.making, at, it)
	o.cond.Broadcast()
	o.nudge()
	return nil
}

// removeLocked takes an item out of the session. Its Parcel is still to be ended.
func (o *outSession) removeLocked(it *outItem) {
	delete(o.items, it.handle)
	delete(o.byID, it.item.ID)
	o.bytes -= it.item.Size
	o.stopLocked(it)
	o.ready.drop(it)
	o.offerLocked()
	o.cond.Broadcast()
}

// stopLocked has no more blocks made of an item.
func (o *outSession) stopLocked(it *outItem) {
	it.ended = true
	if i := slices.Index(o.making, it); i >= 0 {
		o.making = slices.Delete(o.making, i, i+1)
	}
	if it.working == 0 && it.src != nil {
		it.src.close()
		it.src = nil
	}
}

func (o *outSession) refused(m refuse) {
	o.mu.Lock()
	it := o.items[m.handle]
	if it != nil {
		if m.reason == reasonFull {
			o.pause = time.Now().Add(o.s.cfg.FullPause)
		}
		o.removeLocked(it)
	}
	o.mu.Unlock()
	if it == nil {
		return
	}
	o.background(func() error {
		err := errors.New("the far gateway: " + m.text)
		switch m.reason {
		case reasonNever:
			return it.parcel.Park(fmt.Errorf("%w: %w", ErrRefused, err))
		case reasonDamaged:
			return o.damaged(it, err)
		case reasonLater, reasonFull:
		}
		return it.parcel.Retry(err)
	})
}

// damaged looks whether the payload is still what it was before it is sent again.
func (o *outSession) damaged(it *outItem, cause error) error {
	r, err := it.parcel.Open()
	if err == nil {
		_, err = io.Copy(io.Discard, r)
		r.Close()
	}
	if errors.Is(err, spool.ErrCorrupt) {
		return it.parcel.Park(err) //nolint:wrapcheck // background logs it
	}
	return it.parcel.Retry(cause) //nolint:wrapcheck // background logs it
}

// background runs what syncs, so many at a time, and waits for a place.
func (o *outSession) background(f func() error) {
	o.settles <- struct{}{}
	o.late.Go(func() { o.settle(f) })
}

// settle runs f and gives the place back.
func (o *outSession) settle(f func() error) {
	defer func() { <-o.settles }()
	if err := f(); err != nil {
		o.s.log.Warn("the state of an item could not be kept", "error", err)
	}
}
