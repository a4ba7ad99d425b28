package control_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/towpath/towpath/gateway/control"
)

func TestParseProxy(t *testing.T) {
	for in, want := range map[string]struct {
		address string
		login   bool
	}{
		"http://proxy.clinic.example:3128":          {"http://proxy.clinic.example:3128", false},
		"http://proxy.clinic.example:3128/":         {"http://proxy.clinic.example:3128", false},
		"proxy:3128":                                {"http://proxy:3128", false},
		"HTTP://proxy":                              {"http://proxy:80", false},
		"http://[2001:db8::1]:8080":                 {"http://[2001:db8::1]:8080", false},
		"http://10.0.0.1":                           {"http://10.0.0.1:80", false},
		"http://user:secret@proxy:3128":             {"http://proxy:3128", true},
		"user:secret@proxy:3128":                    {"http://proxy:3128", true},
		"http://CLINIC%5Cuser:p%40ss%2F@proxy:3128": {"http://proxy:3128", true},
		"http://user@proxy:3128":                    {"http://proxy:3128", true},
	} {
		p, err := control.ParseProxy(in)
		if err != nil || p.String() != want.address || p.HasLogin() != want.login || p.IsZero() {
			t.Errorf("%q: %s, login %v, %v; want %+v", in, p, p.HasLogin(), err, want)
		}
	}
}

func TestParseProxyRefuses(t *testing.T) {
	for _, in := range []string{
		"", "http://", "http://:3128", "https://user:canary@proxy:443", "socks5://user:canary@proxy:1080", "canary://proxy", "http://proxy:canary",
		"http://proxy:0", "http://proxy:70000", "http://proxy:", "http://proxy/canary", "http://proxy?canary", "http://proxy#canary",
		"http://user:can ary@proxy", "http://user:canary/x@proxy:3128", "http://user:canary#x@proxy:3128", "http://user:12#canary@proxy:3128",
		"http://user:%zzcanary@proxy", "http://us%3Aer:canary@proxy", "http://user:canary%0D%0AX:@proxy", "http://pro xy", "http://proxy\x1b[31m", "http://pröxy:80",
	} {
		p, err := control.ParseProxy(in)
		if !errors.Is(err, control.ErrProxyAddress) || !p.IsZero() {
			t.Errorf("%q: %v, %v; want it refused", in, p, err)
		} else if strings.Contains(err.Error(), "canary") {
			t.Errorf("%q: the error shows a part of it: %v", in, err)
		}
	}
}

func TestProxyHidesItsLogin(t *testing.T) {
	p, err := control.ParseProxy("http://name-canary:word-canary@proxy:3128")
	if err != nil {
		t.Fatal(err)
	}
	type holder struct {
		Open   control.Proxy
		hidden control.Proxy
		ways   control.Ways
	}
	h := holder{p, p, control.Ways{Proxy: p}}
	for _, v := range []any{p, &p, h, &h, []control.Proxy{p}, map[string]control.Proxy{"a": p}, h.hidden, h.ways} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			if s := fmt.Sprintf(verb, v); strings.Contains(s, "canary") || strings.Contains(s, "63616e617279") {
				t.Errorf("%s of %T: %s", verb, v, s)
			}
		}
		if b, err := json.Marshal(v); err == nil && bytes.Contains(b, []byte("canary")) {
			t.Errorf("JSON of %T: %s", v, b)
		}
		var text, js bytes.Buffer
		slog.New(slog.NewTextHandler(&text, nil)).Info("x", "v", v)
		slog.New(slog.NewJSONHandler(&js, nil)).Info("x", "v", v)
		if strings.Contains(text.String()+js.String(), "canary") {
			t.Errorf("the log of %T: %s%s", v, &text, &js)
		}
	}
}

func FuzzParseProxy(f *testing.F) {
	for _, s := range []string{"http://proxy:3128", "user:pass@proxy", "http://a:b%40c@[::1]:80/", "socks5://x", "http://%"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := control.ParseProxy(s)
		if err != nil {
			return
		}
		again, err := control.ParseProxy(p.String())
		if err != nil || again.String() != p.String() || again.HasLogin() {
			t.Errorf("%q is %s, which is %s with login %v (%v)", s, p, again, again.HasLogin(), err)
		}
		if strings.ContainsAny(p.String(), "@ \t\r\n\x1b") {
			t.Errorf("%q shows as %q", s, p.String())
		}
	})
}
