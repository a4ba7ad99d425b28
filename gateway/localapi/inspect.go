package localapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/towpath/towpath/tunnel/capture"
)

// Paths for looking closer.
const (
	pathFirewall = "/v1/firewall"
	pathCapture  = "/v1/capture"
)

// flushEvery is how long a captured packet may wait for others before it is sent to who asked.
const flushEvery = 200 * time.Millisecond

// Trailers of a capture.
const (
	trailerPackets = "Towpath-Packets"
	trailerMissed  = "Towpath-Missed"
	trailerFull    = "Towpath-Full"
)

// Errors of looking closer.
var (
	ErrNoFirewall  = errors.New("this gateway has no firewall")
	ErrUnknownPeer = errors.New("there is no such peer")
)

// CaptureRequest says what to capture.
type CaptureRequest struct {
	// Peer is the name of a site, "coordinator", or an address or prefix; empty means all.
	Peer string
	For  time.Duration
}

// Inspector lets a person look at what the gateway does with packets.
type Inspector interface {
	// FirewallRules are the rules in force in the language of nft(8). Its error is ErrNoFirewall.
	FirewallRules(ctx context.Context) (string, error)
	// Capture writes the headers of what passes the tunnel, as a file for tcpdump. Errors that callers match are ErrUnknownPeer and
	// capture.ErrBusy.
	Capture(ctx context.Context, r CaptureRequest, w io.Writer) (capture.Result, error)
}

// handleInspector serves g.
func handleInspector(mux *http.ServeMux, g Inspector) {
	mux.HandleFunc("GET "+pathFirewall, func(w http.ResponseWriter, r *http.Request) {
		text, err := g.FirewallRules(r.Context())
		answerOr(w, text, err)
	})
	mux.HandleFunc("GET "+pathCapture, func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		d, err := time.ParseDuration(q.Get("for"))
		if err != nil {
			http.Error(w, "the request says not for how long", http.StatusBadRequest)
			return
		}
		body := &body{w: w, rc: http.NewResponseController(w)}
		w.Header().Set("Trailer", trailerPackets+", "+trailerMissed+", "+trailerFull)
		res, err := g.Capture(r.Context(), CaptureRequest{Peer: q.Get("peer"), For: d}, body)
		if err != nil && body.last.IsZero() {
			w.Header().Del("Trailer")
			answerOr(w, nil, err)
			return
		}
		w.Header().Set(trailerPackets, strconv.FormatUint(res.Packets, 10))
		w.Header().Set(trailerMissed, strconv.FormatUint(res.Missed, 10))
		w.Header().Set(trailerFull, strconv.FormatBool(res.Full))
	})
}

// body sends what is written soon, and at once what comes after a pause.
type body struct {
	w    http.ResponseWriter
	rc   *http.ResponseController
	last time.Time
}

// Write implements io.Writer.
func (b *body) Write(p []byte) (int, error) {
	if b.last.IsZero() {
		b.w.Header().Set("Content-Type", "application/vnd.tcpdump.pcap")
	}
	n, err := b.w.Write(p)
	if now := time.Now(); err == nil && now.Sub(b.last) >= flushEvery {
		b.last = now
		err = b.rc.Flush()
	}
	if err != nil {
		return n, fmt.Errorf("send the capture: %w", err)
	}
	return n, nil
}

// FirewallRules asks for the rules in force.
func (c *Client) FirewallRules(ctx context.Context) (string, error) {
	var text string
	err := c.call(ctx, http.MethodGet, pathFirewall, nil, &text)
	return text, err
}

// Capture writes a capture to w until it ends or ctx is done, which is no error; then the Result is not known.
func (c *Client) Capture(ctx context.Context, r CaptureRequest, w io.Writer) (capture.Result, error) {
	q := url.Values{"for": {r.For.String()}, "peer": {r.Peer}}
	resp, err := c.send(ctx, http.MethodGet, pathCapture+"?"+q.Encode(), nil)
	if err != nil {
		return capture.Result{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.Copy(w, io.LimitReader(resp.Body, capture.MaxBytes)); err != nil {
		if ctx.Err() != nil {
			return capture.Result{}, nil
		}
		return capture.Result{}, fmt.Errorf("read the capture: %w", err)
	}
	// The end of the body brings the trailers.
	_, _ = io.Copy(io.Discard, resp.Body)
	var res capture.Result
	for name, n := range map[string]*uint64{trailerPackets: &res.Packets, trailerMissed: &res.Missed} {
		if err := json.Unmarshal([]byte(resp.Trailer.Get(name)), n); err != nil {
			return res, errors.New("the gateway ended before the capture did")
		}
	}
	res.Full = resp.Trailer.Get(trailerFull) == "true"
	return res, nil
}
