package control

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/towpath/towpath/provisioning/wire"
)

// Time limits of enrolment. A person waits for it, and what is blackholed by a firewall answers never.
const (
	dialTimeout = 10 * time.Second
	// tryTimeout bounds both requests of one try.
	tryTimeout = 20 * time.Second
	// wayTimeout bounds all tries of one way, so that the next way gets its turn.
	wayTimeout = 90 * time.Second
)

// Ways say how enrolment may reach the coordinator. The zero Ways is the direct way alone.
type Ways struct {
	// Proxy is one that a person named. It goes first, and the direct way second.
	Proxy Proxy
	// Environment gives the proxy for an address, nil for none, as http.ProxyFromEnvironment does. It is asked only if there is no Proxy,
	// and only after the direct way has failed: a box that needs no proxy must not depend on a variable somebody forgot.
	Environment func(*url.URL) (*url.URL, error)
	// Dial opens connections; nil means the system's.
	Dial DialFunc
	// As is the kind of member that enrolls; empty takes what the token is for.
	As wire.NodeKind
}

// way is one direction in which all addresses of a token are tried.
type way struct {
	// routes lists how one address is tried, in order; none means that this way has nothing for it.
	routes func(*url.URL) ([]route, error)
}

func (w Ways) order() []way {
	direct := way{routes: func(*url.URL) ([]route, error) { return []route{{}}, nil }}
	if !w.Proxy.IsZero() {
		return []way{{routes: func(u *url.URL) ([]route, error) { return through(w.Proxy, u), nil }}, direct}
	}
	if w.Environment == nil {
		return []way{direct}
	}
	return []way{direct, {routes: func(u *url.URL) ([]route, error) {
		env, err := w.Environment(u)
		if err != nil {
			return nil, errors.New("the environment names a proxy that cannot be used") // the error may quote it
		}
		if env == nil {
			return nil, nil
		}
		p, err := ParseProxy(env.String())
		if err != nil {
			return nil, fmt.Errorf("the proxy of the environment: %w", err)
		}
		return through(p, u), nil
	}}}
}

// through lists the ways in which a proxy can be asked. Many proxies allow CONNECT to port 443 only, and filters on absolute-form see an
// ordinary web request, so that goes first where it can.
func through(p Proxy, u *url.URL) []route {
	if u.Scheme == "https" {
		return []route{{proxy: p, connect: true}}
	}
	return []route{{proxy: p}, {proxy: p, connect: true}}
}

// route is how one try reaches one address. The zero route is the direct one.
type route struct {
	proxy   Proxy
	connect bool
}

func (r route) String() string {
	switch {
	case r.proxy.IsZero():
		return "directly"
	case r.connect:
		return "through the proxy " + r.proxy.String() + " with CONNECT"
	}
	return "through the proxy " + r.proxy.String()
}

func (w Ways) dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if w.Dial != nil {
		return w.Dial(ctx, network, address)
	}
	return new(net.Dialer).DialContext(ctx, network, address)
}

// client makes an HTTP client for one try. The caller closes its idle connections.
//
// It accepts any certificate. The requests that use it need none: the identity is public and pinned by the token's fingerprint, and
// request and answer are sealed (HPKE) to the keys so pinned, or to those of a signed map. TLS is only what lets them pass: a proxy that opens TLS with a certificate of its own
// sees no more than one that sees plain HTTP. Verifying it would help nobody, and keep out every box behind such a proxy, or whose clock is
// wrong, or whose coordinator has no public name.
func (r route) client(dial DialFunc) *http.Client {
	t := &http.Transport{
		DialContext:            dial,
		TLSClientConfig:        &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // G402: see above; only sealed requests use this client
		DisableCompression:     true,
		MaxResponseHeaderBytes: 64 << 10,
	}
	switch {
	case r.proxy.IsZero():
	case r.connect:
		t.DialContext = func(ctx context.Context, _, address string) (net.Conn, error) {
			return r.proxy.connect(ctx, dial, address)
		}
	default:
		// The URL has no credentials in it, so that no error of net/http can show them: call sends them as a header.
		t.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: r.proxy.host})
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return r.proxy.dial(ctx, dial) }
	}
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// Try is one attempt of enrolment that failed.
type Try struct {
	URL string
	// How is "directly" or names the proxy, without credentials.
	How string
	Err error
}

// EnrollError lists everything that was tried.
type EnrollError struct{ Tries []Try }

func (e *EnrollError) Error() string {
	var b strings.Builder
	if slices.ContainsFunc(e.Tries, func(t Try) bool { return !errors.Is(t.Err, ErrUnreachable) }) {
		b.WriteString("enrolment did not work:")
	} else {
		b.WriteString(ErrUnreachable.Error() + ":")
	}
	for _, t := range e.Tries {
		fmt.Fprintf(&b, "\n  %s %s: %s", t.URL, t.How, t.Err)
	}
	return b.String()
}

// Unwrap returns the reason of each try.
func (e *EnrollError) Unwrap() []error {
	errs := make([]error, len(e.Tries))
	for i, t := range e.Tries {
		errs[i] = t.Err
	}
	return errs
}
