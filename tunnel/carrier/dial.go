package carrier

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"syscall"
	"time"
)

// Route is one way to a Server.
type Route struct {
	// How tells a person the way, without credentials.
	How string
	// Host is the server's, for the request.
	Host string
	// Open connects, perhaps through a proxy and with TLS.
	Open func(ctx context.Context) (net.Conn, error)
}

// Dialer opens connections outside the tunnel. The zero Dialer opens any.
type Dialer struct {
	// Mark is set on the sockets, if this process may.
	Mark uint32
	// Barred are networks that are the tunnel's own: it must never run inside itself.
	Barred func() []netip.Prefix
}

// DialContext is that of net.Dialer, outside the networks that are barred.
func (d Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	nd := net.Dialer{Control: func(_, at string, c syscall.RawConn) error {
		if a, err := netip.ParseAddrPort(at); err == nil && d.Barred != nil &&
			slices.ContainsFunc(d.Barred(), func(p netip.Prefix) bool { return p.Contains(a.Addr().Unmap()) }) {
			return fmt.Errorf("%v is inside the tunnel, which cannot carry itself", a)
		}
		if d.Mark != 0 {
			mark(c, d.Mark)
		}
		return nil
	}}
	return nd.DialContext(ctx, network, address)
}

const (
	// openTimeout is how long one connection may take, from the first packet to the upgrade.
	openTimeout = 10 * time.Second
	// maxAnswer bounds the head of an answer.
	maxAnswer = 16 << 10
)

// upgrade opens one connection of a session.
func (r Route) upgrade(ctx context.Context, id sessionID, l lane, q *queue) (*stream, error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	c, err := r.Open(ctx)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	br, err := ask(c, r.Host, id, l)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	tune(c)
	return newStream(c, br, q, true), nil
}

func ask(c net.Conn, host string, id sessionID, l lane) (*bufio.Reader, error) {
	req := &http.Request{Method: http.MethodGet, URL: &url.URL{Path: Path}, Host: host, Header: http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {protocol}, sessionHeader: {id.text()}, laneHeader: {l.String()}, "User-Agent": {"towpath"},
	}}
	if err := req.Write(c); err != nil {
		return nil, fmt.Errorf("ask to be carried: %w", err)
	}
	// The head is limited, what follows an upgrade is not.
	limit := &io.LimitedReader{R: c, N: maxAnswer}
	br := bufio.NewReaderSize(limit, 32<<10)
	resp, err := http.ReadResponse(br, req)
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Upgrade") != protocol {
		_ = resp.Body.Close()
		return nil, fmt.Errorf("the answer was %q: the coordinator is older, or a proxy on the way lets no upgrade through", resp.Status)
	}
	limit.N = 1<<63 - 1
	return br, nil
}
