package provisioningtest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// Node is a simulated box: it has a key, enrolls, keeps its newest map and reports what it has applied.
type Node struct {
	ID      provisioning.NodeID
	Key     wgkey.PrivateKey
	Network ed25519.PublicKey
	// Remote is where its enrolment comes from.
	Remote string

	n  *Network
	mu sync.Mutex
	// m is the newest map, gen the newest generation it is true for; maps counts those received.
	m    wire.NetMap
	gen  uint64
	maps int
}

// Box makes a Node that is not enrolled.
func (n *Network) Box(t testing.TB) *Node {
	t.Helper()
	key, err := wgkey.NewPrivateKey()
	if err != nil {
		t.Fatalf("make a key: %v", err)
	}
	return &Node{n: n, Key: key, Remote: "198.51.100.7:40000"}
}

// Node makes a box and enrolls it at a Site with a fresh token.
func (n *Network) Node(t testing.TB, site string) *Node {
	t.Helper()
	b := n.Box(t)
	if err := b.Enroll(context.WithoutCancel(t.Context()), n.Token(t, site), wire.Facts{}); err != nil {
		t.Fatalf("enroll a box at %s: %v", site, err)
	}
	return b
}

// Enroll speaks the whole enrolment: identity, sealed request, sealed answer, signed map. A refusal is a *wire.Refusal.
func (b *Node) Enroll(ctx context.Context, token wire.Token, facts wire.Facts) error {
	pub, err := b.Key.Public()
	if err != nil {
		return err
	}
	req := wire.EnrollRequest{
		Format: wire.Format, TokenID: token.ID, Secret: token.Secret[:], PublicKey: pub, Now: time.Now(), Facts: facts,
	}
	return b.EnrollWith(ctx, token, req)
}

// EnrollWith is Enroll with a request of the caller's own making.
func (b *Node) EnrollWith(ctx context.Context, token wire.Token, req wire.EnrollRequest) error {
	var id wire.Identity
	if err := json.Unmarshal(b.public(ctx, http.MethodGet, wire.PathIdentity, nil).Body.Bytes(), &id); err != nil {
		return fmt.Errorf("decode the identity: %w", err)
	}
	if err := id.Verify(token.Fingerprint); err != nil {
		return err
	}
	body, opener, err := wire.SealRequest(id, req)
	if err != nil {
		return err
	}
	rec := b.public(ctx, http.MethodPost, wire.PathEnroll, body)
	if rec.Code != http.StatusOK {
		return fmt.Errorf("enroll: status %d: %s", rec.Code, rec.Body)
	}
	answer, err := opener.Open(rec.Body.Bytes())
	if err != nil {
		return err
	}
	if answer.Error != nil {
		return answer.Error
	}
	b.Network = id.Network
	if err := b.take(*answer.NetMap); err != nil {
		return err
	}
	b.ID = provisioning.NodeID(b.Map().Self.Node)
	return nil
}

func (b *Node) public(ctx context.Context, method, path string, body []byte) *httptest.ResponseRecorder {
	r := httptest.NewRequestWithContext(ctx, method, "http://coordinator"+path, bytes.NewReader(body))
	r.RemoteAddr = b.Remote
	rec := httptest.NewRecorder()
	b.n.Public.ServeHTTP(rec, r)
	return rec
}

func (b *Node) control(ctx context.Context, w http.ResponseWriter, method, target string, body []byte) {
	r := httptest.NewRequestWithContext(ctx, method, "http://hub"+target, bytes.NewReader(body))
	r.RemoteAddr = netip.AddrPortFrom(b.Map().Self.Address, 50000).String()
	b.n.Control.ServeHTTP(w, r)
}

// take verifies a map and keeps it, unless it is older than what there is.
func (b *Node) take(s wire.Signed) error {
	m, err := s.Open(b.Network)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if m.Generation < b.gen {
		return fmt.Errorf("a map of generation %d after %d", m.Generation, b.gen)
	}
	b.m, b.gen = m, m.Generation
	b.maps++
	return nil
}

// Map is the newest map.
func (b *Node) Map() wire.NetMap {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.m
}

// Generation is the newest that the map is known to be true for.
func (b *Node) Generation() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.gen
}

// Maps is how many maps were received since the Node was made.
func (b *Node) Maps() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.maps
}

// Stream is an open watch.
type Stream struct {
	dec    *json.Decoder
	r      *io.PipeReader
	cancel context.CancelFunc
	done   chan struct{}
	rec    *pipeWriter
}

// Watch opens a stream. The caller closes it.
func (b *Node) Watch(ctx context.Context, have uint64) *Stream {
	ctx, cancel := context.WithCancel(ctx)
	r, w := io.Pipe()
	rec := &pipeWriter{w: w, h: http.Header{}, code: http.StatusOK}
	s := &Stream{dec: json.NewDecoder(r), r: r, cancel: cancel, done: make(chan struct{}), rec: rec}
	go func() {
		defer close(s.done)
		b.control(ctx, s.rec, http.MethodGet, fmt.Sprintf("%s?have=%d", wire.PathWatch, have), nil)
		w.Close()
	}()
	return s
}

// Next returns the next frame; a refusal is a *wire.Refusal and the end of the stream io.EOF.
func (s *Stream) Next() (wire.Frame, error) {
	var raw json.RawMessage
	if err := s.dec.Decode(&raw); err != nil {
		return wire.Frame{}, err
	}
	if code := s.rec.status(); code != http.StatusOK {
		var refusal wire.Refusal
		if err := json.Unmarshal(raw, &refusal); err != nil {
			return wire.Frame{}, fmt.Errorf("status %d: %w", code, err)
		}
		return wire.Frame{}, &refusal
	}
	var f wire.Frame
	err := json.Unmarshal(raw, &f)
	return f, err
}

// Close ends the stream and waits for the coordinator's side of it.
func (s *Stream) Close() {
	s.cancel()
	s.r.CloseWithError(io.ErrClosedPipe)
	<-s.done
}

// Follow watches, keeps each map, and reports what it has applied, until ctx ends or the stream does.
func (b *Node) Follow(ctx context.Context) error {
	s := b.Watch(ctx, b.Generation())
	defer s.Close()
	stop := context.AfterFunc(ctx, func() { s.r.CloseWithError(context.Cause(ctx)) })
	defer stop()
	for {
		f, err := s.Next()
		if err != nil {
			return cmp.Or(ctx.Err(), err)
		}
		if f.NetMap != nil {
			if err := b.take(*f.NetMap); err != nil {
				return err
			}
		}
		b.mu.Lock()
		fresh := f.Generation > b.gen || f.NetMap != nil
		b.gen = max(b.gen, f.Generation)
		b.mu.Unlock()
		if fresh {
			if err := b.Report(ctx, wire.Report{Format: wire.Format, Applied: f.Generation}); err != nil {
				return cmp.Or(ctx.Err(), err)
			}
		}
	}
}

// Report sends one. A refusal is a *wire.Refusal.
func (b *Node) Report(ctx context.Context, r wire.Report) error {
	body, err := json.Marshal(r)
	if err != nil {
		return err
	}
	rec := httptest.NewRecorder()
	b.control(ctx, rec, http.MethodPost, wire.PathReport, body)
	if rec.Code == http.StatusNoContent {
		return nil
	}
	var refusal wire.Refusal
	if err := json.Unmarshal(rec.Body.Bytes(), &refusal); err != nil {
		return errors.Join(fmt.Errorf("report: status %d", rec.Code), err)
	}
	return &refusal
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
