package provisioningtest

import (
	"bytes"
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
	// held is the newest map; maps counts those received, and changes those of them that were not sent whole.
	held          wire.Held
	maps, changes int
	// whole is set when the next map must come whole, because something did not fit; misfits counts how often.
	whole   bool
	misfits int
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

// WaitingError is the answer to a box that has to wait for an operator.
type WaitingError struct{ wire.Wait }

func (w *WaitingError) Error() string { return w.Message }

// Enroll speaks the whole enrolment: identity, sealed request, sealed answer, signed map. A refusal is a *wire.Refusal, and a *WaitingError says
// that the box has to ask again.
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
	if answer.Wait != nil {
		return &WaitingError{*answer.Wait}
	}
	b.Network = id.Network
	if _, err := b.take(wire.Frame{NetMap: answer.NetMap}); err != nil {
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

// Call calls the control API as the Node.
func (b *Node) Call(ctx context.Context, w http.ResponseWriter, method, target string, body io.Reader) {
	r := httptest.NewRequestWithContext(ctx, method, "http://hub"+target, body)
	r.RemoteAddr = netip.AddrPortFrom(b.Map().Self.Address, 50000).String()
	b.n.Control.ServeHTTP(w, r)
}

// take keeps what a frame brings.
func (b *Node) take(f wire.Frame) (changed bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	h, stored, err := b.held.Take(b.Network, f)
	if err != nil {
		return false, err
	}
	if h.Generation < b.held.Generation || h.NetMap.Generation < b.held.NetMap.Generation {
		return false, fmt.Errorf("the node went back from generation %d to %d", b.held.Generation, h.Generation)
	}
	changed = h.Generation != b.held.Generation || stored != nil
	b.held = h
	if stored != nil {
		b.maps++
	}
	if f.Change != nil {
		b.changes++
	}
	return changed, nil
}

// Take keeps what a frame brings, as Follow does.
func (b *Node) Take(f wire.Frame) error {
	_, err := b.take(f)
	return err
}

// Map is the newest map.
func (b *Node) Map() wire.NetMap {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.held.NetMap
}

// Generation is the newest that the map is known to be true for.
func (b *Node) Generation() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.held.Generation
}

// Maps is how many maps were received since the Node was made.
func (b *Node) Maps() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.maps
}

// Changes is how many of the Maps came as a change of the one before.
func (b *Node) Changes() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.changes
}

// Misfits is how often something did not fit the map.
func (b *Node) Misfits() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.misfits
}

// Have is what the Node says of its map.
func (b *Node) Have() wire.Have {
	b.mu.Lock()
	defer b.mu.Unlock()
	h := b.held.Have()
	if b.whole {
		h.Generation, h.Hash = 0, wire.ContentHash{}
	}
	return h
}

// Report sends one. A refusal is a *wire.Refusal.
func (b *Node) Report(ctx context.Context, r wire.Report) error {
	body, err := json.Marshal(r)
	if err != nil {
		return err
	}
	rec := httptest.NewRecorder()
	b.Call(ctx, rec, http.MethodPost, wire.PathReport, bytes.NewReader(body))
	if rec.Code == http.StatusNoContent {
		return nil
	}
	var refusal wire.Refusal
	if err := json.Unmarshal(rec.Body.Bytes(), &refusal); err != nil {
		return errors.Join(fmt.Errorf("report: status %d", rec.Code), err)
	}
	return &refusal
}
