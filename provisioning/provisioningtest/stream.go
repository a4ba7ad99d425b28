package provisioningtest

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/towpath/towpath/provisioning/wire"
)

// Stream is an open watch.
type Stream struct {
	lines  *bufio.Reader
	r      *io.PipeReader
	cancel context.CancelFunc
	done   chan struct{}
	rec    *pipeWriter
	beats  *io.PipeWriter
	// weather may change what arrives, and waiting is what it has left to be read.
	weather func(line []byte) [][]byte
	waiting [][]byte
	bytes   int64
}

// Watch opens a stream as a Node does that knows no changes, hashes and Beats. The caller closes it.
func (b *Node) Watch(ctx context.Context, have uint64) *Stream {
	return b.Open(ctx, http.MethodGet, wire.Have{Generation: have})
}

// Open opens a stream; with the method POST the Node has to Beat. The caller closes it.
func (b *Node) Open(ctx context.Context, method string, have wire.Have) *Stream {
	ctx, cancel := context.WithCancel(ctx)
	r, w := io.Pipe()
	body, beats := io.Pipe()
	rec := &pipeWriter{w: w, h: http.Header{}, code: http.StatusOK}
	s := &Stream{lines: bufio.NewReaderSize(r, 512), r: r, cancel: cancel, done: make(chan struct{}), rec: rec, beats: beats}
	go func() {
		defer close(s.done)
		b.Call(ctx, s.rec, method, wire.PathWatch+"?"+have.Query(), body)
		w.Close()
	}()
	return s
}

// Next returns the next frame; a refusal is a *wire.Refusal and the end of the stream io.EOF.
func (s *Stream) Next() (wire.Frame, error) {
	line, err := s.line()
	if err != nil {
		return wire.Frame{}, err
	}
	if code := s.rec.status(); code != http.StatusOK {
		var refusal wire.Refusal
		if err := json.Unmarshal(line, &refusal); err != nil {
			return wire.Frame{}, fmt.Errorf("status %d: %w", code, err)
		}
		return wire.Frame{}, &refusal
	}
	var f wire.Frame
	if err := json.Unmarshal(line, &f); err != nil {
		return f, fmt.Errorf("%w: %w", errDamaged, err)
	}
	return f, nil
}

// errDamaged is what a frame is that cannot be read.
var errDamaged = errors.New("the frame is damaged")

// line returns the next one that the weather lets through.
func (s *Stream) line() ([]byte, error) {
	for len(s.waiting) == 0 {
		line, err := s.lines.ReadBytes('\n')
		if err != nil {
			return nil, err
		}
		s.bytes += int64(len(line))
		if s.weather == nil {
			return line, nil
		}
		s.waiting = s.weather(line)
	}
	line := s.waiting[0]
	s.waiting = s.waiting[1:]
	return line, nil
}

// Bytes is how many have arrived.
func (s *Stream) Bytes() int64 { return s.bytes }

// Beat sends one.
func (s *Stream) Beat(b wire.Beat) error { return json.NewEncoder(s.beats).Encode(b) }

// Close ends the stream and waits for the coordinator's side of it.
func (s *Stream) Close() {
	s.cancel()
	s.r.CloseWithError(io.ErrClosedPipe)
	<-s.done
}

// Follow watches, keeps each map, and reports what it has applied, until ctx ends or the stream does. What does not fit, and frames that
// are damaged, are such an end.
func (b *Node) Follow(ctx context.Context) error { return b.FollowIn(ctx, nil) }

// FollowIn is Follow in bad weather: it makes of each line that was sent those that arrive.
func (b *Node) FollowIn(ctx context.Context, weather func(line []byte) [][]byte) error {
	s := b.Open(ctx, http.MethodGet, b.Have())
	defer s.Close()
	s.weather = weather
	stop := context.AfterFunc(ctx, func() { s.r.CloseWithError(context.Cause(ctx)) })
	defer stop()
	for told := false; ; {
		f, err := s.Next()
		if errors.Is(err, errDamaged) {
			return io.EOF
		}
		if err != nil {
			return cmp.Or(ctx.Err(), err)
		}
		fresh, err := b.take(f)
		if b.settle(f, err); errors.Is(err, wire.ErrMisfit) || (weather != nil && errors.Is(err, wire.ErrOlder)) {
			return io.EOF
		}
		if err != nil {
			return err
		}
		if fresh || !told {
			told = true
			if err := b.Report(ctx, wire.Report{Format: wire.Format, Applied: b.Generation()}); err != nil {
				return cmp.Or(ctx.Err(), err)
			}
		}
	}
}

// settle decides whether the next stream has to begin with the whole map.
func (b *Node) settle(f wire.Frame, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case errors.Is(err, wire.ErrMisfit):
		b.whole = true
		b.misfits++
	case err == nil && f.NetMap != nil:
		b.whole = false
	}
}

// Beats sends what the Node has applied at once and after every heartbeat, until ctx ends or the stream does.
func (s *Stream) Beats(ctx context.Context, b *Node) {
	tick := time.NewTicker(wire.HeartbeatEvery)
	defer tick.Stop()
	for s.Beat(wire.Beat{Applied: b.Generation()}) == nil {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// pipeWriter is an http.ResponseWriter whose reader decides the pace.
type pipeWriter struct {
	w    *io.PipeWriter
	h    http.Header
	mu   sync.Mutex
	code int
}

func (p *pipeWriter) Header() http.Header         { return p.h }
func (p *pipeWriter) Write(b []byte) (int, error) { return p.w.Write(b) }
func (p *pipeWriter) Flush()                      {}

func (p *pipeWriter) WriteHeader(code int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.code = code
}

func (p *pipeWriter) status() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.code
}
