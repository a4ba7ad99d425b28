package localapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"syscall"
	"time"

	"github.com/towpath/towpath/gateway/doctor"
	"github.com/towpath/towpath/proxy/dicom"
	"github.com/towpath/towpath/proxy/spool"
)

// Paths of the local API.
const (
	pathStatus = "/v1/status"
	pathProbe  = "/v1/probe"
	pathDoctor = "/v1/doctor"

	pathServices = "/v1/services"
)

const (
	maxBody   = 64 << 10
	probeWait = 10 * time.Minute
	// searchWait is for what looks at every item.
	searchWait = 5 * time.Minute
	// doctorWait is longer than an examination takes.
	doctorWait = time.Minute
)

// ErrNotRunning means that no gateway answers at the socket.
var ErrNotRunning = errors.New("no gateway is running here")

// Gateway is what the local API asks.
type Gateway interface {
	Status(ctx context.Context) Status
	Probe(ctx context.Context, r ProbeRequest) ProbeResult
	Inspector
	// Doctor explains the way from here to the network.
	Doctor(ctx context.Context) doctor.Report
	// ProbeService asks the archive of a service anew what it accepts.
	ProbeService(ctx context.Context, service string) (dicom.TwinStatus, error)
}

// Serve answers at the socket until ctx is done. A socket left by a dead process is replaced.
func Serve(ctx context.Context, path string, g Gateway, q Queues) error {
	l, err := listen(ctx, path)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+pathStatus, func(w http.ResponseWriter, r *http.Request) { answer(w, g.Status(r.Context())) })
	mux.HandleFunc("GET "+pathDoctor, func(w http.ResponseWriter, r *http.Request) { answer(w, g.Doctor(r.Context())) })
	mux.HandleFunc("POST "+pathProbe, func(w http.ResponseWriter, r *http.Request) {
		var p ProbeRequest
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&p); err != nil {
			http.Error(w, "the request is no probe", http.StatusBadRequest)
			return
		}
		answer(w, g.Probe(r.Context(), p))
	})
	mux.HandleFunc("POST "+pathServices+"/{service}/probe", func(w http.ResponseWriter, r *http.Request) {
		v, err := g.ProbeService(r.Context(), r.PathValue("service"))
		answerOr(w, v, err)
	})
	handleQueues(mux, q)
	handleInspector(mux, g)
	if c, ok := g.(Certificates); ok {
		handleCertificates(mux, c)
	}
	handleReceipts(mux, g)
	handleTraces(mux, g)
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the local API: %w", err)
	}
	return nil
}

func listen(ctx context.Context, path string) (net.Listener, error) {
	// The state directory's lock says that no other gateway of this directory lives: what is left at path is dead.
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove the old socket: %w", err)
	}
	if len(path) > unixPathMax {
		return nil, fmt.Errorf("the socket's path %q is longer than the %d bytes the system allows: choose a shorter --state", path, unixPathMax)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("open the local API's socket: %w", err)
	}
	// The directory is 0700 already; the socket's own mode is the second lock.
	if err := os.Chmod(path, 0o600); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("protect the local API's socket: %w", err)
	}
	return l, nil
}

// unixPathMax is the room for a path in sockaddr_un, unix(7).
const unixPathMax = 107

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

// Client asks the gateway behind a socket.
type Client struct {
	path string
	http http.Client
}

// NewClient returns a Client for the socket at path. It does not connect yet.
func NewClient(path string) *Client { return newClient(path, 30*time.Second) }

func newClient(path string, wait time.Duration) *Client {
	// No bound on the whole of an answer: a payload may take its time.
	return &Client{path: path, http: http.Client{Transport: &http.Transport{
		ResponseHeaderTimeout: wait,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		},
	}}}
}

// Status asks for everything.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var s Status
	err := c.call(ctx, http.MethodGet, pathStatus, nil, &s)
	return s, err
}

// Probe asks the gateway to try an overlay address.
func (c *Client) Probe(ctx context.Context, p ProbeRequest) (ProbeResult, error) {
	var r ProbeResult
	err := c.call(ctx, http.MethodPost, pathProbe, p, &r)
	return r, err
}

// Doctor explains the way from the gateway to its network, which takes up to half a minute.
func (c *Client) Doctor(ctx context.Context) (doctor.Report, error) {
	var r doctor.Report
	err := newClient(c.path, doctorWait).call(ctx, http.MethodGet, pathDoctor, nil, &r)
	return r, err
}

// ProbeService asks the archive of a service anew what it accepts, which takes up to a few minutes.
func (c *Client) ProbeService(ctx context.Context, service string) (dicom.TwinStatus, error) {
	var s dicom.TwinStatus
	err := newClient(c.path, probeWait).call(ctx, http.MethodPost, pathServices+"/"+url.PathEscape(service)+"/probe", nil, &s)
	return s, err
}

func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	resp, err := c.send(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return fmt.Errorf("read the gateway's answer: %w", err)
	}
	return nil
}

// send returns the answer if it is a good one. The caller closes its body.
func (c *Client) send(ctx context.Context, method, path string, in any) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("encode the request: %w", err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://gateway"+path, body)
	if err != nil {
		return nil, fmt.Errorf("ask the gateway: %w", err)
	}
	resp, err := c.http.Do(req)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, ErrNotRunning
	case err != nil:
		return nil, fmt.Errorf("ask the gateway: %w", err)
	case resp.StatusCode == http.StatusOK:
		return resp, nil
	}
	defer func() { _ = resp.Body.Close() }()
	switch resp.StatusCode {
	case http.StatusNotFound:
		return nil, spool.ErrUnknown
	case http.StatusConflict:
		return nil, spool.ErrLeased
	case http.StatusLocked:
		return nil, spool.ErrNoKey
	}
	var why string
	if json.NewDecoder(io.LimitReader(resp.Body, maxBody)).Decode(&why) == nil && why != "" {
		return nil, fmt.Errorf("the gateway answered: %s", why)
	}
	return nil, fmt.Errorf("the gateway answered %s", resp.Status)
}
