package control

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/towpath/towpath/provisioning/wire"
)

// beats is the body of a watch: one wire.Beat a line, at once, when it changes and after every heartbeat, until stop.
type beats struct {
	beat   func() wire.Beat
	last   wire.Beat
	at     time.Time
	unread []byte
	done   chan struct{}
	stop   func()
}

// beatLook is how often a change is looked for.
const beatLook = time.Second

func newBeats(beat func() wire.Beat) *beats {
	done := make(chan struct{})
	return &beats{beat: beat, done: done, stop: sync.OnceFunc(func() { close(done) })}
}

// Close implements io.Closer.
func (b *beats) Close() error {
	b.stop()
	return nil
}

// Read implements io.Reader.
func (b *beats) Read(p []byte) (int, error) {
	for len(b.unread) == 0 {
		if err := b.await(); err != nil {
			return 0, err
		}
	}
	n := copy(p, b.unread)
	b.unread = b.unread[n:]
	return n, nil
}

// await returns when there is something to say, or io.EOF.
func (b *beats) await() error {
	for next := b.beat(); ; next = b.beat() {
		next.ApplyError = next.ApplyError[:min(len(next.ApplyError), maxBeatError)]
		if now := time.Now(); next != b.last || now.Sub(b.at) >= wire.HeartbeatEvery {
			line, err := json.Marshal(next)
			if err != nil {
				return fmt.Errorf("encode a heartbeat: %w", err)
			}
			b.last, b.at, b.unread = next, now, append(line, '\n')
			return nil
		}
		select {
		case <-b.done:
			return io.EOF
		case <-time.After(beatLook):
		}
	}
}

// maxBeatError keeps a Beat below wire.MaxBeat, whatever JSON makes of its letters. The report has the whole error.
const maxBeatError = wire.MaxBeat / 8

// frames reads a stream.
type frames struct {
	lines *bufio.Reader
	alive func()
}

// newFrames calls alive whenever something has come, be it a part of a frame: a whole map may take minutes on a slow line.
func newFrames(r io.Reader, alive func()) *frames {
	return &frames{lines: bufio.NewReaderSize(r, 16<<10), alive: alive}
}

var errFrameTooLong = fmt.Errorf("the coordinator sent a frame of more than %d bytes", wire.MaxFrame)

// next returns the next frame. The room for a large one is given back.
func (f *frames) next() (wire.Frame, error) {
	var line []byte
	for {
		part, err := f.lines.ReadSlice('\n')
		if len(part) > 0 {
			f.alive()
		}
		if len(line)+len(part) > wire.MaxFrame {
			return wire.Frame{}, errFrameTooLong
		}
		line = append(line, part...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF):
			return wire.Frame{}, io.ErrUnexpectedEOF
		case err != nil:
			return wire.Frame{}, err
		}
		var fr wire.Frame
		if err := json.Unmarshal(line, &fr); err != nil {
			return wire.Frame{}, fmt.Errorf("decode a frame: %w", err)
		}
		return fr, nil
	}
}
