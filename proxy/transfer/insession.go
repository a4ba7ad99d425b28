package transfer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/codec"
)

// MaxLanes is the most connections of one session.
const MaxLanes = 16

const (
	helloTimeout = 15 * time.Second
	// quietTime is how long lane 0 may be silent at the receiving end. The sender pings every 10 s.
	quietTime = 45 * time.Second
	// maxSessionAssembling bounds the incomplete blocks of a session, in bytes.
	maxSessionAssembling = 64 << 20
	// finalsAtOnce is how many final receipts may be under way, settling how many answers to them are recorded at a time.
	finalsAtOnce = 256
	settling     = 64
)

// inSession is a connected Sender, from its first lane to its last.
type inSession struct {
	r     *Receiver
	node  string
	id    [16]byte
	codec bool
	out   *outbound
	over  chan struct{} // closed by end
	once  sync.Once
	err   error
	done  chan struct{} // closed when all its lanes have returned
	lanes sync.WaitGroup

	items      map[uint64]*incoming // by handle; locked by the Receiver
	assembling atomic.Int64         // bytes of incomplete blocks
	finals     *finalQueue
	settled    chan struct{} // a place for each answer being recorded
	taken      atomic.Int64
	reports    bool // the sender wants to know how fast blocks are decoded
	decoding   decoding
	left       bool // locked by the Receiver: no lane may join any more
}

func (s *inSession) end(err error) { s.once.Do(func() { s.err = err; close(s.over) }) }

// Serve implements proxy.Handler: one connection is one lane.
func (r *Receiver) Serve(ctx context.Context, c net.Conn) proxy.Result {
	_ = c.SetReadDeadline(time.Now().Add(helloTimeout))
	in := newFrameReader(c)
	m, err := in.next()
	h, ok := m.(hello)
	if err != nil || !ok {
		return result(0, cmp.Or(err, errMalformed))
	}
	_ = c.SetReadDeadline(time.Time{})
	w := r.judge(h, c)
	if w.code != welcomeOK {
		_ = writeAll(c, appendFrame(nil, w))
		return proxy.Result{Outcome: proxy.OutcomeRefused, Detail: refusal(w.code)}
	}
	s, code := r.join(ctx, h)
	if w.code = code; s == nil {
		_ = writeAll(c, appendFrame(nil, w))
		return proxy.Result{Outcome: proxy.OutcomeRefused, Detail: refusal(w.code)}
	}
	if h.lane > 0 {
		defer s.lanes.Done()
	}
	stop := context.AfterFunc(ctx, func() { s.end(errClosed) })
	defer stop()
	gone := make(chan struct{})
	defer close(gone)
	go func() {
		select {
		case <-s.over:
			_ = c.SetDeadline(time.Unix(1, 0))
		case <-gone:
		}
	}()
	if err := writeAll(c, appendFrame(nil, w)); err != nil {
		s.end(err)
	}
	if h.lane > 0 {
		s.end(s.bulk(c, in))
		return result(0, s.err)
	}
	s.control(c, in)
	r.leave(s)
	return result(int(s.taken.Load()), s.err)
}

func refusal(code byte) string {
	switch code {
	case refusedVersion:
		return "the gateway speaks another version of the transfer protocol: update the older one of the two"
	case refusedNode:
		return "the gateway is not the one that this address belongs to"
	}
	return "a lane came without its session"
}

func result(items int, err error) proxy.Result {
	res := proxy.Result{Outcome: proxy.OutcomeDone, Items: items}
	switch {
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, errClosed), errors.Is(err, errSuperseded):
	case errors.Is(err, errMalformed):
		res.Outcome, res.Detail = proxy.OutcomeMalformed, "the peer does not speak the transfer protocol: "+err.Error()
	default:
		res.Outcome, res.Detail = proxy.OutcomeAborted, err.Error()
	}
	return res
}

// judge answers a hello.
func (r *Receiver) judge(h hello, c net.Conn) welcome {
	w := welcome{version: maxVersion, items: uint32(r.cfg.MaxItems), node: r.cfg.Node, public: r.public}
	if r.cfg.Codec != nil {
		w.codec = min(h.codec, codec.Version)
	}
	if h.min > maxVersion || h.max < minVersion {
		w.code = refusedVersion
	}
	w.version = min(h.max, maxVersion)
	if h.node == "" || h.lane >= MaxLanes {
		w.code = refusedLane
	}
	if r.cfg.Peer != nil {
		a, _ := c.RemoteAddr().(*net.TCPAddr)
		if a == nil {
			w.code = refusedNode
		} else if node, ok := r.cfg.Peer(a.AddrPort().Addr().Unmap()); !ok || node != h.node {
			w.code = refusedNode
		}
	}
	return w
}

var errSuperseded = errors.New("the peer has opened another session")

// join makes the session of a first lane, after the one before it has ended, or finds that of another lane.
func (r *Receiver) join(ctx context.Context, h hello) (*inSession, byte) {
	for {
		r.mu.Lock()
		old := r.sessions[h.node]
		if h.lane > 0 {
			defer r.mu.Unlock()
			if old == nil || old.left || old.id != h.session {
				return nil, refusedLane
			}
			old.lanes.Add(1)
			return old, welcomeOK
		}
		if old == nil && !r.closed {
			s := &inSession{
				r: r, node: h.node, id: h.session, codec: r.cfg.Codec != nil, out: newOutbound(), over: make(chan struct{}), done: make(chan struct{}),
				items: map[uint64]*incoming{}, finals: newFinalQueue(), settled: make(chan struct{}, settling),
				reports: h.codec >= reportsFrom,
			}
			r.sessions[h.node] = s
			r.mu.Unlock()
			return s, welcomeOK
		}
		closed := r.closed
		r.mu.Unlock()
		if closed || old.id == h.session {
			return nil, refusedLane
		}
		old.end(errSuperseded)
		select {
		case <-old.done:
		case <-ctx.Done():
			return nil, refusedLane
		}
	}
}

// leave ends a session: its items stay as far as they came.
func (r *Receiver) leave(s *inSession) {
	s.end(nil)
	r.mu.Lock()
	items := s.items
	s.items, s.left = map[uint64]*incoming{}, true
	r.mu.Unlock()
	s.lanes.Wait()
	for _, in := range items {
		if !in.cut(s) {
			r.mu.Lock()
			r.dropLocked(in)
			r.mu.Unlock()
		}
	}
	r.mu.Lock()
	delete(r.sessions, s.node)
	r.mu.Unlock()
	close(s.done)
	r.grant()
}

// bulk reads the chunks of one lane.
func (s *inSession) bulk(c net.Conn, in *frameReader) error {
	var done uint64
	acked := done
	for {
		m, err := in.next()
		if err != nil {
			return err
		}
		k, ok := m.(chunk)
		if !ok {
			return fmt.Errorf("%w: kind %d on a lane for chunks", errMalformed, m.kind())
		}
		if err := s.chunk(k); err != nil {
			return err
		}
		if done++; in.idle() || done-acked >= 4 {
			if err := writeAll(c, appendFrame(nil, ack{done})); err != nil {
				return err
			}
			acked = done
		}
	}
}

// control serves lane 0.
func (s *inSession) control(c net.Conn, in *frameReader) {
	var helpers sync.WaitGroup
	helpers.Go(func() {
		if err := s.out.run(func(b []byte) error { return writeAll(c, b) }, s.over); err != nil {
			s.end(err)
		}
	})
	for _, f := range s.r.journal.finals(s.node) {
		s.finals.add(f)
	}
	helpers.Go(func() { s.finals.run(s.out, s.over) })
	var chunks uint64
	for {
		_ = c.SetReadDeadline(time.Now().Add(quietTime))
		m, err := in.next()
		if err == nil {
			if _, ok := m.(chunk); ok {
				chunks++
			}
			err = s.handle(m, chunks)
		}
		if err != nil {
			s.end(err)
			break
		}
		select {
		case <-s.over:
		default:
			continue
		}
		break
	}
	helpers.Wait()
	for range cap(s.settled) { // those that still record
		s.settled <- struct{}{}
	}
}

func (s *inSession) handle(m message, chunks uint64) error {
	switch m := m.(type) {
	case offer:
		return s.offer(m)
	case chunk:
		err := s.chunk(m)
		s.out.put(ack{chunks})
		return err
	case number:
		if m.k == kindPing {
			s.out.put(number{kindPong, m.n})
			if ps, news := s.decoding.report(); news && s.reports {
				s.out.put(number{kindDecoding, ps})
			}
			return nil
		}
		if m.k == kindAbandon {
			s.abandon(m.n)
			return nil
		}
	case named:
		if m.k == kindAsk {
			s.ask(m)
			return nil
		}
		if m.k == kindSettled {
			return s.settle(m)
		}
	}
	return fmt.Errorf("%w: kind %d from a sender", errMalformed, m.kind())
}

func (s *inSession) chunk(c chunk) error {
	if c.method == methodCodec && !s.codec {
		return fmt.Errorf("%w: an encoded block was not agreed on", errMalformed)
	}
	s.r.mu.Lock()
	in := s.items[c.handle]
	s.r.mu.Unlock()
	if in == nil {
		return nil // it ended meanwhile
	}
	complete, err := in.take(s, c, s.r.cfg.Codec)
	switch {
	case errors.Is(err, errMalformed):
		return err
	case err != nil:
		s.r.finish(in, Receipt{}, err)
	case complete:
		s.r.storeSoon(in)
	}
	return nil
}

func (s *inSession) offer(m offer) error {
	m.item.Node = s.node
	s.r.mu.Lock()
	n, used := len(s.items), s.items[m.handle] != nil
	s.r.mu.Unlock()
	if used || n >= s.r.cfg.MaxItems {
		return fmt.Errorf("%w: %d items are offered, handle used: %v", errMalformed, n, used)
	}
	k, known := m.item.key(), false
	err := m.item.validate()
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrRefused, err)
	} else {
		known, err = s.known(m, k)
	}
	if err == nil && !known {
		if err = s.accept(m.item, k); err == nil {
			err = s.r.admit(s, m.handle, m.item, k)
		}
	}
	if err != nil {
		s.answer(m.handle, Receipt{}, err)
	} else {
		s.r.grant()
	}
	return nil
}

// accept asks the Inbox about an item that is new.
func (s *inSession) accept(item Item, k key) error {
	s.r.mu.Lock()
	old := s.r.incoming[k]
	s.r.mu.Unlock()
	if old != nil {
		return nil
	}
	return s.r.cfg.Inbox.Accept(item) //nolint:wrapcheck // the sender is told
}
