package nodeapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/coordinator"
	"github.com/towpath/towpath/provisioning/nodeapi"
	"github.com/towpath/towpath/provisioning/provisioningtest"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/store/sqlite"
	"github.com/towpath/towpath/provisioning/wire"
)

func newNetwork(t *testing.T) (*provisioningtest.Network, store.Store) {
	t.Helper()
	st, err := sqlite.Open(context.Background(), filepath.Join(t.TempDir(), "coordinator.db"), sqlite.Options{})
	if err != nil {
		t.Fatalf("open the database: %v", err)
	}
	t.Cleanup(func() { st.Close() })
	return provisioningtest.New(t, st, provisioningtest.Options{}), st
}

func do(h http.Handler, method, target, remote string, body []byte) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, bytes.NewReader(body))
	r.RemoteAddr = remote
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	return rec
}

func TestPublicShowsNothingMore(t *testing.T) {
	n, _ := newNetwork(t)
	if rec := do(n.Public, http.MethodGet, "/", "192.0.2.1:1", nil); rec.Code != 200 || !strings.Contains(rec.Body.String(), "boxes enroll here") {
		t.Errorf("GET /: %d %s", rec.Code, rec.Body)
	}
	for _, r := range []struct {
		method, path string
		want         int
	}{
		{http.MethodGet, wire.PathWatch, 404}, {"POST", wire.PathReport, 404}, {http.MethodGet, wire.PathEnroll, 405}, {http.MethodGet, "/v1/sites", 404}, {"POST", "/", 405},
	} {
		if rec := do(n.Public, r.method, r.path, "192.0.2.1:1", nil); rec.Code != r.want {
			t.Errorf("%s %s: status %d, want %d", r.method, r.path, rec.Code, r.want)
		}
	}
}

func TestEnrollIsSealedOrPlainlyRefused(t *testing.T) {
	n, _ := newNetwork(t)
	for name, tc := range map[string]struct {
		body []byte
		want int
	}{
		"nothing":  {nil, 400},
		"noise":    {bytes.Repeat([]byte{1}, 1500), 400},
		"JSON":     {[]byte(`{"token_id":"tok_1"}`), 400},
		"too long": {make([]byte, wire.MaxEnrollBody+1), 413},
	} {
		rec := do(n.Public, "POST", wire.PathEnroll, "192.0.2.1:1", tc.body)
		if rec.Code != tc.want || rec.Body.Len() > 200 {
			t.Errorf("%s: status %d with %d bytes, want %d", name, rec.Code, rec.Body.Len(), tc.want)
		}
	}
	body, opener, err := wire.SealRequest(n.Identity(), wire.EnrollRequest{Format: 1, TokenID: "tok_unknown"})
	if err != nil {
		t.Fatal(err)
	}
	rec := do(n.Public, "POST", wire.PathEnroll, "192.0.2.1:1", body)
	if rec.Code != 200 || rec.Header().Get("Content-Type") != "application/octet-stream" {
		t.Errorf("a refusal has status %d and type %s", rec.Code, rec.Header().Get("Content-Type"))
	}
	answer, err := opener.Open(rec.Body.Bytes())
	if err != nil || answer.Error == nil || answer.Error.Code != "denied" || answer.NetMap != nil || time.Since(answer.Now) > time.Minute {
		t.Errorf("the sealed answer is %+v (%v)", answer, err)
	}
}

func TestEnrolmentsAtOnceAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, st := newNetwork(t)
		n.Clinic(t, "a")
		token, box := n.Token(t, "a"), n.Box(t)
		// While somebody else writes, whoever has a good token waits.
		writing, written := make(chan struct{}), make(chan struct{})
		go func() {
			err := st.Update(context.Background(), func(store.Tx) error { close(writing); <-written; return errors.New("never mind") })
			if err == nil {
				t.Error("the failed write went through")
			}
		}()
		<-writing
		const limit = 32
		done := make(chan error)
		for range limit {
			again := n.Box(t)
			again.Key = box.Key
			go func() { done <- again.Enroll(context.Background(), token, wire.Facts{}) }()
		}
		synctest.Wait()
		start := time.Now()
		rec := do(n.Public, "POST", wire.PathEnroll, "192.0.2.1:1", bytes.Repeat([]byte{1}, 1500))
		if rec.Code != http.StatusServiceUnavailable || rec.Header().Get("Retry-After") == "" || time.Since(start) != 5*time.Second {
			t.Errorf("one more than the limit: status %d after %s", rec.Code, time.Since(start))
		}
		close(written)
		for range limit {
			if err := <-done; err != nil {
				t.Errorf("one within the limit: %v", err)
			}
		}
		if rec := do(n.Public, "POST", wire.PathEnroll, "192.0.2.1:1", nil); rec.Code != 400 {
			t.Errorf("after all ended: status %d", rec.Code)
		}
	})
}

func TestControlKnowsItsCallers(t *testing.T) {
	n, _ := newNetwork(t)
	n.Clinic(t, "a")
	box := n.Node(t, "a")
	self := box.Map().Self.Address.String()
	report := []byte(`{"format":1,"applied":3}`)
	for name, tc := range map[string]struct {
		method, target, remote string
		body                   []byte
		want                   int
		code                   provisioning.Code
	}{
		"report":            {"POST", wire.PathReport, self + ":5000", report, 204, ""},
		"mapped address":    {"POST", wire.PathReport, "[::ffff:" + self + "]:5000", report, 204, ""},
		"a stranger":        {"POST", wire.PathReport, "10.201.0.99:5000", report, 403, provisioning.Denied},
		"the hub itself":    {"POST", wire.PathReport, "10.201.0.1:5000", report, 403, provisioning.Denied},
		"a socket":          {"POST", wire.PathReport, "@", report, 403, provisioning.Denied},
		"a stranger looks":  {http.MethodGet, wire.PathWatch, "10.201.0.99:5000", nil, 403, provisioning.Denied},
		"no JSON":           {"POST", wire.PathReport, self + ":5000", []byte("{"), 400, provisioning.Invalid},
		"too long":          {"POST", wire.PathReport, self + ":5000", make([]byte, wire.MaxReport+1), 400, provisioning.Invalid},
		"newer format":      {"POST", wire.PathReport, self + ":5000", []byte(`{"format":9}`), 400, provisioning.Invalid},
		"no generation":     {http.MethodGet, wire.PathWatch + "?have=new", self + ":5000", nil, 400, provisioning.Invalid},
		"enrolment is out":  {"POST", wire.PathEnroll, self + ":5000", nil, 404, ""},
		"identity is out":   {http.MethodGet, wire.PathIdentity, self + ":5000", nil, 404, ""},
		"report by reading": {http.MethodGet, wire.PathReport, self + ":5000", nil, 405, ""},
	} {
		rec := do(n.Control, tc.method, tc.target, tc.remote, tc.body)
		if rec.Code != tc.want {
			t.Errorf("%s: status %d, want %d", name, rec.Code, tc.want)
		}
		if tc.code == "" {
			continue
		}
		var refusal wire.Refusal
		if err := json.Unmarshal(rec.Body.Bytes(), &refusal); err != nil || refusal.Code != string(tc.code) || refusal.Message == "" {
			t.Errorf("%s: %s is no refusal with code %s", name, rec.Body, tc.code)
		}
	}
}

// A box whose site is renumbered is known at both addresses, and at the former one no longer than that.
func TestControlKnowsFormerAddresses(t *testing.T) {
	n, _ := newNetwork(t)
	n.Clinic(t, "a")
	box := n.Node(t, "a")
	old := box.Map().Self.Address
	moved, err := n.Renumber(t.Context(), provisioningtest.Actor, coordinator.RenumberRequest{Site: "a", Keep: time.Hour})
	if err != nil || len(moved.Nodes) != 1 {
		t.Fatalf("%+v, %v", moved, err)
	}
	call := func(from netip.Addr) int {
		return do(n.Control, "POST", wire.PathReport, netip.AddrPortFrom(from, 5000).String(), []byte(`{"format":1,"applied":3}`)).Code
	}
	next := moved.Nodes[0].New
	if a, b := call(old), call(next); a != 204 || b != 204 {
		t.Errorf("in between: status %d from the former address, %d from the new one", a, b)
	}
	if _, err := n.EndRenumbering(t.Context(), provisioningtest.Actor, "a"); err != nil {
		t.Fatal(err)
	}
	if a, b := call(old), call(next); a != 403 || b != 204 {
		t.Errorf("afterwards: status %d from the former address, %d from the new one", a, b)
	}
}

func TestControlHidesItsOwnProblems(t *testing.T) {
	n, st := newNetwork(t)
	n.Clinic(t, "a")
	box := n.Node(t, "a")
	remote := box.Map().Self.Address.String() + ":5000"
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	for _, rec := range []*httptest.ResponseRecorder{
		do(n.Control, "POST", wire.PathReport, remote, []byte(`{"format":1}`)), do(n.Control, http.MethodGet, wire.PathWatch, remote, nil),
	} {
		if rec.Code != 503 || strings.Contains(rec.Body.String(), "store") || strings.Contains(rec.Body.String(), "database") {
			t.Errorf("without a database: %d %s", rec.Code, rec.Body)
		}
	}
	body, opener, err := wire.SealRequest(n.Identity(), wire.EnrollRequest{Format: 1})
	if err != nil {
		t.Fatal(err)
	}
	answer, err := opener.Open(do(n.Public, "POST", wire.PathEnroll, "192.0.2.1:1", body).Body.Bytes())
	if err != nil || answer.Error == nil || answer.Error.Code != "unavailable" || strings.Contains(answer.Error.Message, "closed") {
		t.Errorf("enrolment without a database: %+v (%v)", answer.Error, err)
	}
}

// TestWatchFlushesAndEnds runs over a real connection: what is sent arrives at once, and a caller that goes away ends the stream.
func TestWatchFlushesAndEnds(t *testing.T) {
	n, _ := newNetwork(t)
	n.Center(t, "lab", "")
	n.Clinic(t, "a")
	n.DICOM(t, "lab", "pacs", "PACS")
	n.Node(t, "lab")
	box := n.Node(t, "a")
	ended := make(chan struct{})
	as := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(ended)
		r.RemoteAddr = box.Map().Self.Address.String() + ":5000"
		n.Control.ServeHTTP(w, r)
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := nodeapi.NewServer(as)
	go srv.Serve(ln)
	defer srv.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+ln.Addr().String()+wire.PathWatch+"?have=0", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := new(http.Client).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.Header.Get("Content-Type") != "application/x-ndjson" {
		t.Errorf("the type is %s", res.Header.Get("Content-Type"))
	}
	dec := json.NewDecoder(res.Body)
	var first, second wire.Frame
	if err := dec.Decode(&first); err != nil || first.NetMap == nil {
		t.Fatalf("the first frame is %+v (%v)", first, err)
	}
	n.Grant(t, "pacs", "a")
	if err := dec.Decode(&second); err != nil || second.NetMap == nil || second.Generation != first.Generation+1 {
		t.Fatalf("the second frame is %+v (%v)", second, err)
	}
	cancel()
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Fatal("the stream of a caller that has gone goes on")
	}
	if err := dec.Decode(&second); !errors.Is(err, context.Canceled) {
		t.Errorf("the end of the stream: %v", err)
	}
}

// TestSpoolKeysByControl leaves a key and gets it back, as the box and as somebody else.
func TestSpoolKeysByControl(t *testing.T) {
	n, _ := newNetwork(t)
	n.Clinic(t, "a")
	n.Clinic(t, "b")
	box, other := n.Node(t, "a"), n.Node(t, "b")
	if err := n.SetSiteSpoolKey(t.Context(), provisioningtest.Actor, "a", wire.SpoolKeyCoordinator); err != nil {
		t.Fatal(err)
	}
	self, far := box.Map().Self.Address.String()+":5000", other.Map().Self.Address.String()+":5000"
	secret := bytes.Repeat([]byte{5}, wire.SpoolKeySize)
	body, err := json.Marshal(wire.SpoolKeyDeposit{Format: 1, Key: wire.HeldSpoolKey{ID: "ab", Private: secret}})
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		remote string
		body   []byte
		want   int
	}{
		"the box": {self, body, 204}, "another site": {far, body, 409}, "a stranger": {"10.201.0.99:1", body, 403}, "no JSON": {self, []byte("{"), 400},
		"too long": {self, make([]byte, wire.MaxSpoolKeysBody+1), 400}, "an empty key": {self, []byte(`{"format":1}`), 400},
	} {
		rec := do(n.Control, "POST", wire.PathSpoolKeys, tc.remote, tc.body)
		if rec.Code != tc.want || bytes.Contains(rec.Body.Bytes(), []byte("BQUF")) {
			t.Errorf("%s: status %d, want %d: %s", name, rec.Code, tc.want, rec.Body)
		}
	}
	for remote, want := range map[string]int{self: 1, far: 0} {
		rec := do(n.Control, http.MethodGet, wire.PathSpoolKeys, remote, nil)
		var keys wire.SpoolKeys
		if err := json.Unmarshal(rec.Body.Bytes(), &keys); err != nil || rec.Code != 200 || len(keys.Keys) != want || rec.Header().Get("Cache-Control") != "no-store" {
			t.Fatalf("%s gets %d %s", remote, rec.Code, rec.Body)
		}
		if want == 1 && !bytes.Equal(keys.Keys[0].Private, secret) {
			t.Error("another key came back")
		}
	}
	if rec := do(n.Control, http.MethodGet, wire.PathSpoolKeys, "10.201.0.99:1", nil); rec.Code != 403 {
		t.Errorf("a stranger gets %d", rec.Code)
	}
	if rec := do(n.Public, http.MethodGet, wire.PathSpoolKeys, self, nil); rec.Code != 404 {
		t.Errorf("outside the tunnel: %d", rec.Code)
	}
}
