package control_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/gateway/control"
)

// only dials one address.
func only(address string) control.DialFunc {
	return func(ctx context.Context, network, a string) (net.Conn, error) {
		if a != address {
			return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ENETUNREACH}
		}
		return new(net.Dialer).DialContext(ctx, network, a)
	}
}

// network is one in which some addresses refuse, some hang when dialed and some take the connection and say nothing.
type network struct {
	refuse, hang []string
	say          map[string]string // what an address says to the first bytes it hears, and then nothing more
	dialed       []string
	open, closed atomic.Int32
	far          []net.Conn
}

func (n *network) dial(ctx context.Context, _, address string) (net.Conn, error) {
	n.dialed = append(n.dialed, address)
	switch {
	case slices.Contains(n.refuse, address):
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	case slices.Contains(n.hang, address):
		<-ctx.Done()
		return nil, ctx.Err()
	}
	near, far := net.Pipe()
	n.far = append(n.far, far)
	n.open.Add(1)
	go func() {
		defer n.closed.Add(1)
		_, err := far.Read(make([]byte, 64<<10))
		if err == nil {
			_, err = far.Write([]byte(n.say[address]))
		}
		for err == nil {
			_, err = far.Read(make([]byte, 64<<10))
		}
	}()
	return near, nil
}

func (n *network) close() {
	for _, c := range n.far {
		_ = c.Close()
	}
}

func mustProxy(t *testing.T, s string) control.Proxy {
	t.Helper()
	p, err := control.ParseProxy(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestEverythingThatWasTriedIsSaidInBoundedTime lets all addresses fail in ways that firewalls have.
func TestEverythingThatWasTriedIsSaidInBoundedTime(t *testing.T) {
	env := func(u *url.URL) (*url.URL, error) {
		switch u.Hostname() {
		case "a":
			return url.Parse("http://user:canary@env:3128")
		case "b":
			return url.Parse("socks5://user:canary@env:1080")
		case "c":
			return nil, errors.New("canary")
		}
		return nil, nil
	}
	many := []string{"http://a", "http://b", "http://c", "http://d", "http://e", "http://f", "http://g", "http://h"}
	for name, c := range map[string]struct {
		net   *network
		proxy string
		env   func(*url.URL) (*url.URL, error)
		urls  []string
		took  time.Duration
		tries []string
	}{
		"nobody there": {
			net: &network{refuse: []string{"a:80", "b:443"}}, urls: []string{"http://a", "https://b"},
			tries: []string{"http://a directly: dial tcp: connection refused", "https://b directly: dial tcp: connection refused"},
		},
		"blackholed": {
			net: &network{hang: []string{"a:80", "a:443"}}, urls: []string{"http://a", "https://a"}, took: 20 * time.Second,
			tries: []string{"http://a directly: no answer in time", "https://a directly: no answer in time"},
		},
		"all eight blackholed": {
			net: &network{hang: []string{"a:80", "b:80", "c:80", "d:80", "e:80", "f:80", "g:80", "h:80"}}, urls: many, took: 80 * time.Second,
			tries: []string{"http://h directly: no answer in time"},
		},
		"all eight silent": {
			net: &network{}, urls: many, took: 90 * time.Second,
			tries: []string{"http://d directly: no answer in time", "http://h directly: not tried"},
		},
		"the proxy is not there": {
			net: &network{refuse: []string{"p:3128", "a:80", "b:80"}}, proxy: "http://user:canary@p:3128", urls: []string{"http://a", "http://b"},
			tries: []string{
				"http://a through the proxy http://p:3128: the proxy cannot be reached: dial tcp: connection refused",
				"http://a directly: dial tcp: connection refused", "http://b directly: dial tcp: connection refused",
			},
		},
		"the proxy is blackholed": {
			net: &network{refuse: []string{"a:443"}, hang: []string{"p:3128"}}, proxy: "p:3128", urls: []string{"https://a"}, took: 10 * time.Second,
			tries: []string{"https://a through the proxy http://p:3128 with CONNECT: the proxy cannot be reached: ", "https://a directly: dial tcp: connection refused"},
		},
		"the proxy hangs": {
			net: &network{refuse: []string{"a:80", "b:443"}}, proxy: "http://user:canary@p:3128", urls: []string{"http://a", "https://b"}, took: 40 * time.Second,
			tries: []string{
				"http://a through the proxy http://p:3128: no answer in time", "https://b through the proxy http://p:3128 with CONNECT: no answer in time",
				"http://a directly: dial tcp: connection refused", "https://b directly: dial tcp: connection refused",
			},
		},
		"the proxy refuses with a page that never ends": {
			net: &network{
				refuse: []string{"a:443"},
				say:    map[string]string{"p:3128": "HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\n\r\n<html><title>Not here</title>"},
			},
			proxy: "p:3128", urls: []string{"https://a"}, took: 2 * time.Second,
			tries: []string{
				"https://a through the proxy http://p:3128 with CONNECT: the proxy refused the tunnel: a web page answered, not the coordinator: a filter or a proxy on the way blocks this address: " +
					`it answered 403 Forbidden ("Not here")`,
				"https://a directly: dial tcp: connection refused",
			},
		},
		"the proxy speaks in the tunnel": {
			net:   &network{refuse: []string{"a:443"}, say: map[string]string{"p:3128": "HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"}},
			proxy: "p:3128", urls: []string{"https://a"},
			tries: []string{
				"https://a through the proxy http://p:3128 with CONNECT: the proxy opened the tunnel and sent 19 bytes of its own into it",
				"https://a directly: dial tcp: connection refused",
			},
		},
		"the environment's proxies": {
			net: &network{refuse: []string{"a:80", "b:80", "c:80", "d:80", "env:3128"}}, env: env, urls: many[:4],
			tries: []string{
				"http://a directly: dial tcp: connection refused", "http://b directly: dial tcp: connection refused",
				"http://c directly: dial tcp: connection refused", "http://d directly: dial tcp: connection refused",
				"http://a through the proxy http://env:3128: the proxy cannot be reached: dial tcp: connection refused",
				"http://b through a proxy: the proxy of the environment: this is not the address of an HTTP proxy: it is one of kind socks5, and only http:// is supported",
				"http://c through a proxy: the environment names a proxy that cannot be used",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := c.net
				defer n.close()
				w := control.Ways{Dial: n.dial, Environment: c.env}
				if c.proxy != "" {
					w.Proxy = mustProxy(t, c.proxy)
				}
				start := time.Now()
				err := enrollAt(t.Context(), t, w, c.urls...)
				if took := time.Since(start); took != c.took {
					t.Errorf("it took %s, want %s", took, c.took)
				}
				synctest.Wait()
				if open, closed := n.open.Load(), n.closed.Load(); open != closed {
					t.Errorf("%d connections were opened and %d closed", open, closed)
				}
				e, ok := errors.AsType[*control.EnrollError](err)
				if !ok || !errors.Is(err, control.ErrUnreachable) {
					t.Fatalf("got %v", err)
				}
				var got []string
				for _, r := range e.Tries {
					got = append(got, fmt.Sprintf("%s %s: %s", r.URL, r.How, r.Err))
				}
				if len(c.urls) < len(many) && len(got) != len(c.tries) {
					t.Errorf("%d tries, want %d: %q", len(got), len(c.tries), got)
				}
				at := 0
				for _, want := range c.tries {
					i := slices.IndexFunc(got[at:], func(s string) bool { return strings.HasPrefix(s, want) })
					if i < 0 {
						t.Fatalf("tried %q; %q is missing or out of order", got, want)
					}
					at += i + 1
				}
				if s := fmt.Sprintf("%v %+v %#v", err, err, e.Tries); strings.Contains(s, "canary") {
					t.Errorf("the error shows the credentials: %s", s)
				}
			})
		})
	}
}

// TestEnrollEndsWhenThePersonStopsIt does not wait for what hangs.
func TestEnrollEndsWhenThePersonStopsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := network{hang: []string{"a:80"}}
		defer n.close()
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		start := time.Now()
		err := enrollAt(ctx, t, control.Ways{Dial: n.dial, Proxy: mustProxy(t, "p:3128")}, "https://a", "http://a")
		if !errors.Is(err, context.Canceled) || time.Since(start) != time.Second {
			t.Errorf("it took %s: %v", time.Since(start), err)
		}
	})
}
