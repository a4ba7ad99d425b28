package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/towpath/towpath/provisioning/wire"
)

// Coordinator is what a box needs of its coordinator once it is enrolled.
type Coordinator interface {
	// Watch calls f with each frame until the stream ends. It returns an error always; ctx's when that is why.
	Watch(ctx context.Context, have uint64, f func(wire.Frame) error) error
	Report(ctx context.Context, r wire.Report) error
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
	return &HTTP{base: "http://" + hostport, client: &http.Client{Transport: t}}
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

// Watch implements Coordinator. A stream without any frame for three heartbeats is given up.
func (h *HTTP) Watch(ctx context.Context, have uint64, f func(wire.Frame) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	h.mu.Lock()
	h.cancel = cancel
	h.mu.Unlock()
	silent := time.AfterFunc(3*wire.HeartbeatEvery, func() { cancel(errSilent) })
	defer silent.Stop()

	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.base+wire.PathWatch+"?have="+strconv.FormatUint(have, 10), nil)
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
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(make([]byte, 0, 64<<10), wire.MaxFrame)
	for lines.Scan() {
		silent.Reset(3 * wire.HeartbeatEvery)
		var fr wire.Frame
		if err := json.Unmarshal(lines.Bytes(), &fr); err != nil {
			return fmt.Errorf("watch: decode a frame: %w", err)
		}
		if err := f(fr); err != nil {
			return err
		}
	}
	err = lines.Err()
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return watchError(ctx, err)
}

func watchError(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return fmt.Errorf("watch: %w", err)
}

// Report implements Coordinator.
func (h *HTTP) Report(ctx context.Context, r wire.Report) error {
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.base+wire.PathReport, bytes.NewReader(b))
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := h.client.Do(req)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if err := statusError(resp); err != nil {
		return fmt.Errorf("report: %w", err)
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
