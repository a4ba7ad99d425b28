package control_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/towpath/towpath/gateway/control"
	"github.com/towpath/towpath/provisioning/wire"
)

// standingDesk answers every question with quarantine.
func standingDesk(t *testing.T) (*httptest.Server, control.StandingQuestion, *atomic.Int32) {
	t.Helper()
	key, err := wire.KEM().GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		body, _ := io.ReadAll(r.Body)
		req, sealer, err := wire.OpenStanding(key, body)
		if err != nil || r.URL.Path != wire.PathStanding || req.Node != "node_a" || req.PublicKey != [32]byte{5} {
			t.Errorf("%s: %+v, %v", r.URL.Path, req, err)
			return
		}
		b, err := sealer.Seal(wire.StandingResponse{Standing: wire.StandingQuarantined, Message: "clone", Now: time.Unix(1e9, 0)})
		if err != nil {
			t.Error(err)
		}
		_, _ = w.Write(b)
	}))
	t.Cleanup(srv.Close)
	return srv, control.StandingQuestion{URLs: []string{srv.URL}, Seal: key.PublicKey().Bytes(), Node: "node_a", Key: [32]byte{5}}, &asked
}

func TestStanding(t *testing.T) {
	srv, q, asked := standingDesk(t)
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "<html><title>Log in</title>")
	}))
	defer page.Close()
	proxied := atomic.Int32{}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		proxied.Add(1)
		resp, err := srv.Client().Post(srv.URL+r.URL.Path, "application/octet-stream", r.Body)
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = resp.Body.Close() }()
		_, _ = io.Copy(w, resp.Body)
	}))
	defer proxy.Close()
	named, err := control.ParseProxy(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxyURL, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	environment := control.Ways{Environment: func(*url.URL) (*url.URL, error) { return proxyURL, nil }}
	for name, c := range map[string]struct {
		ways    control.Ways
		urls    []string
		proxied int32
		fails   error
	}{
		"directly":                   {urls: []string{srv.URL}},
		"the second address":         {urls: []string{"http://127.0.0.1:1", page.URL, srv.URL + "/"}},
		"through a named proxy":      {ways: control.Ways{Proxy: named}, urls: []string{"http://coordinator.invalid"}, proxied: 1},
		"as the environment says":    {ways: environment, urls: []string{"http://127.0.0.1:1"}, proxied: 1},
		"nobody there":               {urls: []string{"http://127.0.0.1:1"}, fails: control.ErrUnreachable},
		"no address":                 {fails: control.ErrUnreachable},
		"somebody else answers":      {urls: []string{page.URL}, fails: control.ErrPortal},
		"an address that is no such": {urls: []string{"http://[::1"}, fails: errAny},
	} {
		for _, ask := range []func(control.StandingQuestion, context.Context) (wire.StandingResponse, error){
			control.StandingQuestion.Ask, control.StandingQuestion.AskAtOnce,
		} {
			proxied.Store(0)
			q.Ways, q.URLs = c.ways, c.urls
			r, err := ask(q, t.Context())
			if c.fails != nil {
				if err == nil || !errors.Is(c.fails, errAny) && !errors.Is(err, c.fails) {
					t.Errorf("%s: %v", name, err)
				}
				continue
			}
			if err != nil || r.Standing != wire.StandingQuarantined || r.Message != "clone" || r.Now.Unix() != 1e9 || proxied.Load() != c.proxied {
				t.Errorf("%s: %+v, %v, %d times through the proxy", name, r, err, proxied.Load())
			}
		}
	}
	if asked.Load() == 0 {
		t.Error("nobody was asked")
	}
}

var errAny = errors.New("any")

// An answer to another key, or one that was changed on the way, is none.
func TestStandingThatIsNotTheCoordinators(t *testing.T) {
	_, q, _ := standingDesk(t)
	for name, change := range map[string]func([]byte) []byte{
		"cut":   func(b []byte) []byte { return b[:len(b)-1] },
		"one":   func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"empty": func([]byte) []byte { return nil },
		"long":  func(b []byte) []byte { return append(b, 0) },
	} {
		key, err := wire.KEM().GenerateKey()
		if err != nil {
			t.Fatal(err)
		}
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			_, sealer, err := wire.OpenStanding(key, body)
			if err != nil {
				t.Error(err)
				return
			}
			b, err := sealer.Seal(wire.StandingResponse{Standing: wire.StandingActive})
			if err != nil {
				t.Error(err)
			}
			_, _ = w.Write(change(b))
		}))
		q.URLs, q.Seal = []string{srv.URL}, key.PublicKey().Bytes()
		if r, err := q.Ask(t.Context()); err == nil {
			t.Errorf("%s: it believes %+v", name, r)
		}
		srv.Close()
	}
	q.Seal = q.Seal[:5]
	if _, err := q.Ask(t.Context()); err == nil {
		t.Error("a key that cannot be used")
	}
}

func TestNextKeyIsTold(t *testing.T) {
	status := http.StatusNoContent
	var got, kind string
	h := served(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got, kind = r.Method+" "+r.URL.Path+" "+string(b), r.Header.Get("Content-Type")
		w.WriteHeader(status)
	})
	key := wire.NextKey{Format: wire.Format, PublicKey: [32]byte{1}}
	if err := h.NextKey(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if want := `POST /v1/key {"format":1,"public_key":"AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}`; got != want || kind != "application/json" {
		t.Errorf("the coordinator got %s (%s)", got, kind)
	}
	for _, c := range []struct {
		status int
		want   error
	}{{http.StatusForbidden, control.ErrRemoved}, {http.StatusConflict, errAny}} {
		status = c.status
		if err := h.NextKey(t.Context(), key); err == nil || !errors.Is(c.want, errAny) && !errors.Is(err, c.want) {
			t.Errorf("status %d: %v", c.status, err)
		}
	}
}
