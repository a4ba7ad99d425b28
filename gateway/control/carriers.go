package control

import (
	"context"
	"crypto/tls"
	"net"
	"net/url"
	"slices"
	"strings"
)

// Line is one way to an address of the coordinator on which a connection can be upgraded.
type Line struct {
	// How tells a person the way, without credentials.
	How string
	// Host is that of the address.
	Host string
	// Open connects.
	Open func(ctx context.Context) (net.Conn, error)
}

// Lines are the ways to the coordinator's addresses for what is to stay open, TLS first. Through a proxy they ask for a tunnel (CONNECT): a proxy
// that forwards requests takes upgrades out (RFC 9110 §7.6.1). Certificates are not looked at, see route.client; what goes over a line must be
// sealed by itself. An address or a proxy of the environment that makes no sense is left out.
func (w Ways) Lines(urls []string, dial DialFunc) []Line {
	var parsed []*url.URL
	for _, s := range urls {
		if u, err := url.Parse(s); err == nil && u.Host != "" {
			parsed = append(parsed, u)
		}
	}
	slices.SortStableFunc(parsed, func(a, b *url.URL) int { return strings.Compare(b.Scheme, a.Scheme) })
	var out []Line
	for _, x := range w.order() {
		for _, u := range parsed {
			routes, err := x.routes(u)
			if err != nil {
				continue
			}
			for _, r := range routes {
				if r.proxy.IsZero() || r.connect {
					out = append(out, r.line(u, dial))
				}
			}
		}
	}
	return out
}

func (r route) line(u *url.URL, dial DialFunc) Line {
	at, how := u.Host, "HTTP on "
	if u.Scheme == "https" {
		how = "TLS on "
	}
	if u.Port() == "" {
		at = net.JoinHostPort(u.Hostname(), map[bool]string{true: "443", false: "80"}[u.Scheme == "https"])
	}
	how += at
	if !r.proxy.IsZero() {
		how += " via the proxy " + r.proxy.String()
	}
	return Line{How: how, Host: u.Host, Open: func(ctx context.Context) (net.Conn, error) {
		c, err := r.reach(ctx, dial, at)
		if err != nil || u.Scheme != "https" {
			return c, err
		}
		t := tls.Client(c, &tls.Config{ServerName: u.Hostname(), NextProtos: []string{"http/1.1"}, InsecureSkipVerify: true}) //nolint:gosec // G402: see Lines
		if err := t.HandshakeContext(ctx); err != nil {
			_ = c.Close()
			return nil, err //nolint:wrapcheck // Line's caller says which way it was
		}
		return t, nil
	}}
}

// reach connects to an address, through the proxy if there is one.
func (r route) reach(ctx context.Context, dial DialFunc, at string) (net.Conn, error) {
	if r.proxy.IsZero() {
		return dial(ctx, "tcp", at)
	}
	return r.proxy.connect(ctx, dial, at)
}
