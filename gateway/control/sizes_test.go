package control_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/towpath/towpath/gateway/control"
	"github.com/towpath/towpath/provisioning/wire"
)

// Sizes tells silence from answers, and uses a new connection each time.
func TestSizes(t *testing.T) {
	hold := make(chan struct{})
	defer close(hold)
	for name, tc := range map[string]struct {
		serve   http.HandlerFunc
		silence bool
		fine    bool
	}{
		"all comes back": {serve: func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			_, _ = w.Write(make([]byte, len(b)))
		}, fine: true},
		"less comes back":    {serve: func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 5)) }},
		"an older one":       {serve: http.NotFound},
		"nothing comes back": {serve: func(http.ResponseWriter, *http.Request) { <-hold }, silence: true},
		"the rest is missing": {serve: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "6000")
			_, _ = w.Write(make([]byte, 10))
			_ = http.NewResponseController(w).Flush()
			<-hold
		}, silence: true},
	} {
		t.Run(name, func(t *testing.T) {
			mux := http.NewServeMux()
			mux.HandleFunc("POST "+wire.PathSizes, tc.serve)
			server := httptest.NewServer(mux)
			t.Cleanup(server.CloseClientConnections)
			dials := 0
			var dialer net.Dialer
			h := control.NewHTTP(func(ctx context.Context, network, address string) (net.Conn, error) {
				dials++
				return dialer.DialContext(ctx, network, address)
			}, server.Listener.Addr().String())
			for range 2 {
				ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
				if tc.fine {
					cancel()
					ctx, cancel = context.WithTimeout(t.Context(), 30*time.Second)
				}
				err := h.Sizes(ctx, 6000)
				cancel()
				if (err == nil) != tc.fine || errors.Is(err, control.ErrNoAnswer) != tc.silence {
					t.Errorf("%v", err)
				}
			}
			if dials != 2 {
				t.Errorf("%d connections for two questions", dials)
			}
		})
	}
}
