package control

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// maxConnectAnswer bounds what a proxy may say to CONNECT, in bytes.
const maxConnectAnswer = 16 << 10

// pageTimeout is how long the page behind a refusal is waited for.
const pageTimeout = 2 * time.Second

// downError means that a connection to the proxy itself was not possible, so that nothing else needs to be tried through it.
type downError struct{ err error }

func (e *downError) Error() string { return "the proxy cannot be reached: " + brief(e.err) }
func (e *downError) Unwrap() error { return e.err }

// dial opens a connection to the proxy.
func (p Proxy) dial(ctx context.Context, dial DialFunc) (net.Conn, error) {
	c, err := dial(ctx, "tcp", p.host)
	if err != nil {
		return nil, &downError{err}
	}
	return c, nil
}

// connect opens a connection to address through the proxy with CONNECT (RFC 9110 §9.3.6).
func (p Proxy) connect(ctx context.Context, dial DialFunc, address string) (net.Conn, error) {
	c, err := p.dial(ctx, dial)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	err = p.handshake(c, address)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// handshake asks for the tunnel.
func (p Proxy) handshake(c net.Conn, address string) error {
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: address}, Host: address, Header: http.Header{}}
	if a := p.authorization(); a != "" {
		req.Header.Set("Proxy-Authorization", a)
	}
	if err := req.Write(c); err != nil {
		return fmt.Errorf("ask the proxy for a tunnel: %w", err)
	}
	r := bufio.NewReader(io.LimitReader(c, maxConnectAnswer))
	resp, err := http.ReadResponse(r, req)
	if err != nil {
		return fmt.Errorf("read the proxy's answer: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode/100 != 2 {
		// What of the page arrives soon is enough for its title. An error only cuts it short.
		_ = c.SetReadDeadline(time.Now().Add(pageTimeout))
		page, _ := io.ReadAll(resp.Body)
		return fmt.Errorf("the proxy refused the tunnel: %w", judge(resp, page, p))
	}
	// The coordinator never speaks first, so whatever follows is the proxy's and would be taken for the coordinator's.
	if n := r.Buffered(); n > 0 {
		return fmt.Errorf("the proxy opened the tunnel and sent %d bytes of its own into it", n)
	}
	return nil
}
