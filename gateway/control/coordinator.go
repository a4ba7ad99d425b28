package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/towpath/towpath/provisioning/wire"
)

// Coordinator is what a box needs of its coordinator once it is enrolled.
type Coordinator interface {
	// Watch calls f with each frame until the stream ends, and says beat at once, when it changes and after every heartbeat. It returns an
	// error always; ctx's when that is why.
	Watch(ctx context.Context, have wire.Have, beat func() wire.Beat, f func(wire.Frame) error) error
	Report(ctx context.Context, r wire.Report) error
	// NextKey tells the key that this box will change to, after it was asked for one.
	NextKey(ctx context.Context, k wire.NextKey) error
}

// ErrRemoved means that the coordinator does not know this box any more.
var ErrRemoved = errors.New("the coordinator does not know this box: it was removed, enroll it anew")

// ErrMoved is why a watch ends that Move has ended.
var ErrMoved = errors.New("this box has another address now")

// errSilent is why a watch ends that carried neither map nor heartbeat for too long.
var errSilent = errors.New("the coordinator went silent")

const reportTimeout = 20 * time.Second

// DialFunc opens a connection inside the tunnel.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// HTTP is the Coordinator at the hub's address, reached only through dial.
type HTTP struct {
	base   string
	client *http.Client
	fresh  *http.Client // with a connection for each question

	mu     sync.Mutex
	cancel context.CancelCauseFunc // of the newest Watch
}

// NewHTTP returns the Coordinator at host:port.
func NewHTTP(dial DialFunc, hostport string) *HTTP {
	t := &http.Transport{
		DialContext:           dial,
		DisableCompression:    true,
		MaxIdleConnsPerHost:   1,
		IdleConnTimeout:       90 * time.Second,
		ResponseHeaderTimeout: 30 * time.Second,
	}
	return &HTTP{
		base: "http://" + hostport, client: &http.Client{Transport: t},
		fresh: &http.Client{Transport: &http.Transport{DialContext: dial, DisableCompression: true, DisableKeepAlives: true}},
	}
}

// Close drops idle connections.
func (h *HTTP) Close() { h.client.CloseIdleConnections() }

// Move leaves the connections there are, so that the next ones come from the address that the box has now: the old one will end some day,
// first at the coordinator's side, and this one would not hear of it.
func (h *HTTP) Move() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.cancel != nil {
		h.cancel(ErrMoved)
	}
	h.client.CloseIdleConnections()
}

// Watch implements Coordinator. A stream on which nothing comes for three heartbeats is given up.
func (h *HTTP) Watch(ctx context.Context, have wire.Have, beat func() wire.Beat, f func(wire.Frame) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	h.mu.Lock()
	h.cancel = cancel
	h.mu.Unlock()
	silent := time.AfterFunc(3*wire.HeartbeatEvery, func() { cancel(errSilent) })
	defer silent.Stop()

	body := newBeats(beat)
	defer body.stop()
	// net/http returns from a request that was given up when it has written the body, be it for nobody.
	defer context.AfterFunc(ctx, body.stop)()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.base+wire.PathWatch+"?"+have.Query(), body)
	if err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	resp, err := h.client.Do(req)
	if err != nil {
		return watchError(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if err := statusError(resp); err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	frames := newFrames(resp.Body, func() { silent.Reset(3 * wire.HeartbeatEvery) })
	for {
		fr, err := frames.next()
		if err != nil {
			return watchError(ctx, err)
		}
		if err := f(fr); err != nil {
			return err
		}
	}
}

func watchError(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return fmt.Errorf("watch: %w", err)
}

// Report implements Coordinator.
func (h *HTTP) Report(ctx context.Context, r wire.Report) error {
	return h.post(ctx, "report", wire.PathReport, r)
}

// NextKey implements Coordinator.
func (h *HTTP) NextKey(ctx context.Context, k wire.NextKey) error {
	return h.post(ctx, "tell the next key", wire.PathKey, k)
}

// post sends v as JSON, for an answer of which only the status matters.
func (h *HTTP) post(ctx context.Context, what, path string, v any) error {
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.base+path, bytes.NewReader(b))
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := h.client.Do(req)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if err := statusError(resp); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func statusError(resp *http.Response) error {
	switch {
	case resp.StatusCode/100 == 2:
		return nil
	case resp.StatusCode == http.StatusForbidden:
		return ErrRemoved
	}
	return fmt.Errorf("the coordinator answered %s", resp.Status)
}
