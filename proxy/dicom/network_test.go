package dicom_test

import (
	"context"
	"net"
	"testing"

	"github.com/towpath/towpath/proxy"
)

// loopback is a proxy.Network of real sockets on the loopback interface, for real peers.
type loopback struct{}

func (loopback) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, address)
}

func (loopback) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	var l net.ListenConfig
	return l.Listen(ctx, network, address)
}

// serve runs a handler on a listener until the test ends, and hands out the Results.
func serve(t testing.TB, n proxy.Network, h proxy.Handler) (address string, results <-chan proxy.Result) {
	t.Helper()
	l, err := n.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	out := make(chan proxy.Result, 1000)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		running := make(chan struct{})
		count := 0
		for {
			c, err := l.Accept()
			if err != nil {
				break
			}
			count++
			go func() {
				res := h.Serve(ctx, c)
				_ = c.Close()
				out <- res
				running <- struct{}{}
			}()
			select {
			case <-running:
				count--
			default:
			}
		}
		for ; count > 0; count-- {
			<-running
		}
	}()
	t.Cleanup(func() {
		cancel()
		_ = l.Close()
		<-done
	})
	return l.Addr().String(), out
}
