package nodeapi

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/wire"
)

const (
	// frameTimeout bounds the writing of one piece of a frame: a caller that takes nothing for so long has gone without a word.
	frameTimeout = 3 * wire.HeartbeatEvery
	// beatTimeout is how long a caller that sends Beats may be silent. What is written to one that has gone without a word is accepted by
	// the network for many minutes, so that writing cannot tell.
	beatTimeout = 3 * wire.HeartbeatEvery
	// pieceSize is what a slow line carries within frameTimeout, in bytes.
	pieceSize = 64 << 10
)

// Why a stream ends.
var (
	errNodeSilent = errors.New("the node went silent")
	errNodeGone   = errors.New("the node has gone")
)

func (h *control) watch(w http.ResponseWriter, r *http.Request) {
	rc := http.NewResponseController(w)
	beats := r.Method == http.MethodPost
	if beats {
		// The body ends with the stream, so that nothing may wait for its end. Neither is supported without a connection, in a test.
		_ = rc.EnableFullDuplex()
		w.Header().Set("Connection", "close")
		defer func() { _ = rc.SetReadDeadline(time.Unix(1, 0)) }()
	}
	have, err := wire.ParseHave(r.URL.Query())
	if err != nil {
		refuse(w, provisioning.Errorf(provisioning.Invalid, "%v", err).WithHint("update the box"))
		return
	}
	id, ok := h.caller(w, r)
	if !ok {
		return
	}
	ctx := r.Context()
	if beats {
		var stop func()
		ctx, stop = h.listen(ctx, rc, r, id)
		defer stop()
	}
	out := frameWriter{w: w, rc: rc}
	err = h.c.Watch(ctx, id, have, out.send)
	// Once the stream runs, its end says all: the node calls again and then hears the reason.
	if !out.started {
		refuse(w, err)
	}
}

// listen hears Beats until the caller has gone, or is silent for too long, or stop is called; then the context ends.
func (h *control) listen(ctx context.Context, rc *http.ResponseController, r *http.Request, id provisioning.NodeID) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	silent := time.AfterFunc(beatTimeout, func() { cancel(errNodeSilent) })
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer cancel(errNodeGone)
		lines := bufio.NewScanner(r.Body)
		lines.Buffer(make([]byte, 0, 512), wire.MaxBeat)
		for lines.Scan() {
			var b wire.Beat
			if json.Unmarshal(lines.Bytes(), &b) != nil {
				return
			}
			silent.Reset(beatTimeout)
			h.c.Beat(id, b)
		}
	}()
	return ctx, func() {
		silent.Stop()
		cancel(nil)
		// The reader sits in the body, which cannot be closed while it does.
		if rc.SetReadDeadline(time.Unix(1, 0)) != nil {
			_ = r.Body.Close()
		}
		<-done
	}
}

// frameWriter writes frames, one a line.
type frameWriter struct {
	w       http.ResponseWriter
	rc      *http.ResponseController
	started bool
}

func (f *frameWriter) send(frame wire.Frame) error {
	if !f.started {
		f.w.Header().Set("Content-Type", "application/x-ndjson")
		f.w.Header().Set("Cache-Control", "no-store")
		f.started = true
	}
	if err := json.NewEncoder(f).Encode(frame); err != nil {
		return err
	}
	return f.rc.Flush()
}

// Write gives every piece a time of its own: a whole map may take minutes on a slow line.
func (f *frameWriter) Write(b []byte) (int, error) {
	written := 0
	for written < len(b) {
		if err := f.rc.SetWriteDeadline(time.Now().Add(frameTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return written, fmt.Errorf("bound the write: %w", err)
		}
		n, err := f.w.Write(b[written:min(written+pieceSize, len(b))])
		if written += n; err != nil {
			return written, err
		}
	}
	return written, nil
}
