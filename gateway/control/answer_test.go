package control_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/towpath/towpath/gateway/control"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

func newKey(t *testing.T) wgkey.PrivateKey {
	t.Helper()
	k, err := wgkey.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func enrollAt(ctx context.Context, t *testing.T, ways control.Ways, urls ...string) error {
	t.Helper()
	_, err := control.Enroll(ctx, ways, wire.Token{ID: "tok_a", URLs: urls}, newKey(t), wire.Facts{})
	return err
}

// TestStrangersAreNamed asks all that answers in place of a coordinator.
func TestStrangersAreNamed(t *testing.T) {
	const page = "<!DOCTYPE html><html><head><title>\n Welcome &amp; log in\x1b[31m </title></head></html>"
	for name, c := range map[string]struct {
		answer func(http.ResponseWriter, *http.Request)
		want   error
		text   string
	}{
		"login page":          {body(200, "text/html", page), control.ErrPortal, `("Welcome & log in[31m")`},
		"login page, mislaid": {body(200, "application/json", "\xef\xbb\xbf  "+page), control.ErrPortal, "Welcome"},
		"login page in XHTML": {body(200, "", `<?xml version="1.0"?><html/>`), control.ErrPortal, ""},
		"login page, endless": {body(200, "text/html", page+strings.Repeat("x", 1<<20)), control.ErrPortal, "Welcome"},
		"redirect to a login": {redirect(302, "https://login.hotel.example/start?mac=1"), control.ErrPortal, "redirects to login.hotel.example"},
		"redirect to a host":  {redirect(301, "https://elsewhere.example/v1/identity"), control.ErrPortal, "redirects to elsewhere.example"},
		"redirect elsewhere":  {redirect(307, "/login"), control.ErrPortal, "redirects to 127.0.0.1"},
		"redirect to a login here": {
			func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "https://"+r.Host+"/login", http.StatusFound)
			},
			control.ErrPortal, "redirects to 127.0.0.1",
		},
		"redirect to nowhere": {body(302, "", ""), control.ErrPortal, "nowhere"},
		"status 511":          {body(511, "text/plain", "log in"), control.ErrPortal, ""},
		"block page":          {body(403, "text/html", page), control.ErrBlocked, `403 Forbidden ("Welcome`},
		"a page of its own":   {body(404, "text/html", "<html><body>nginx</body></html>"), control.ErrBlocked, "404 Not Found"},
		"text":                {body(503, "text/plain", "too many\nenrolments\x07"), nil, "503 Service Unavailable: too many enrolments"},
		"nothing":             {body(502, "", ""), nil, "it answered 502 Bad Gateway"},
		"another program":     {body(200, "text/plain", "hello"), control.ErrNotCoordinator, ""},
		"another JSON":        {body(200, "", `{"hello":1}`), wire.ErrIdentity, ""},
		"empty":               {body(200, "", ""), control.ErrNotCoordinator, ""},
		"too much":            {body(200, "application/json", strings.Repeat(" ", 1<<20)), control.ErrNotCoordinator, "longer than"},
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(c.answer))
			defer s.Close()
			err := enrollAt(t.Context(), t, control.Ways{}, s.URL)
			if err == nil || (c.want != nil && !errors.Is(err, c.want)) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v; want %v with %q", err, c.want, c.text)
			}
			if errors.Is(err, control.ErrUnreachable) {
				t.Errorf("somebody did answer: %v", err)
			}
			if strings.ContainsAny(err.Error(), "\x1b\x07") || strings.Count(err.Error(), "\n") != 1 {
				t.Errorf("%q is not fit for a terminal", err)
			}
		})
	}
}

func body(status int, kind, text string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = nil
		if kind != "" {
			w.Header().Set("Content-Type", kind)
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(text))
	}
}

func redirect(status int, to string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, status) }
}

// TestBlockPageOfAProxyHidesTheLogin asks a proxy that repeats what it was sent on its error page.
func TestBlockPageOfAProxyHidesTheLogin(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "denied: user:p@ss-canary (p%40ss-canary) "+r.Header.Get("Proxy-Authorization"), http.StatusForbidden)
	}))
	defer s.Close()
	p, err := control.ParseProxy("http://user:p%40ss-canary@" + s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range []string{"http://coordinator.test", "https://coordinator.test"} {
		err := enrollAt(t.Context(), t, control.Ways{Proxy: p, Dial: only(s.Listener.Addr().String())}, u)
		if err == nil || !strings.Contains(err.Error(), "denied: user:(secret) ((secret)) Basic (secret)") || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", u, err)
		}
	}
}

// TestProxyThatNobodyNamed meets one that is transparent and wants a login. The next address may have a way around it.
func TestProxyThatNobodyNamed(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(body(http.StatusProxyAuthRequired, "text/html", "<html>")))
	defer s.Close()
	err := enrollAt(t.Context(), t, control.Ways{}, s.URL, s.URL)
	e, ok := errors.AsType[*control.EnrollError](err)
	if !ok || len(e.Tries) != 2 {
		t.Fatalf("got %v, want two tries", err)
	}
	if auth, ok := errors.AsType[*control.ProxyAuthError](err); !ok || auth.Proxy != "" || auth.Sent || !auth.Basic() {
		t.Errorf("got %+v", auth)
	}
}
