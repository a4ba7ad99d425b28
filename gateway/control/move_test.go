package control_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/towpath/towpath/gateway/control"
	"github.com/towpath/towpath/provisioning/wire"
)

// After Move the stream and the reports come on new connections, and nobody hears of a failure.
func TestMove(t *testing.T) {
	streams, reports := make(chan string, 8), make(chan string, 8)
	mux := http.NewServeMux()
	mux.HandleFunc(wire.PathWatch, func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		_ = json.NewEncoder(w).Encode(wire.Frame{Generation: 1})
		_ = http.NewResponseController(w).Flush()
		streams <- r.RemoteAddr
		_, _ = io.Copy(io.Discard, r.Body)
	})
	mux.HandleFunc(wire.PathReport, func(w http.ResponseWriter, r *http.Request) {
		reports <- r.RemoteAddr
		w.WriteHeader(http.StatusNoContent)
	})
	srv := httptest.NewServer(mux)
	defer srv.Close()
	var dialer net.Dialer
	coord := control.NewHTTP(dialer.DialContext, srv.Listener.Addr().String())
	defer coord.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	states, ended := make(chan error, 8), make(chan error, 1)
	f := control.Follower{
		Coordinator: coord, Have: func() wire.Have { return wire.Have{} }, Beat: noBeat, Frame: func(wire.Frame) error { return nil },
		State: func(err error) { states <- err }, Log: slog.New(slog.DiscardHandler),
	}
	go func() { ended <- f.Run(ctx) }()
	report := func() string {
		t.Helper()
		if err := coord.Report(ctx, wire.Report{Format: wire.Format}); err != nil {
			t.Fatal(err)
		}
		return <-reports
	}
	next := func() string {
		t.Helper()
		select {
		case s := <-streams:
			return s
		case <-ctx.Done():
			t.Fatal("no stream came")
			return ""
		}
	}
	stream, reported := next(), report()
	if again := report(); again != reported {
		t.Errorf("a report came from %s after one from %s", again, reported)
	}
	began := time.Now()
	coord.Move()
	if s := next(); s == stream || s == reported {
		t.Errorf("the stream after the move is on the connection %s of before", s)
	}
	if took := time.Since(began); took > 400*time.Millisecond {
		t.Errorf("the stream came back after %s: it was taken for a failure", took)
	}
	if r := report(); r == reported || r == stream {
		t.Errorf("a report after the move came on the connection %s of before", r)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	for len(states) > 0 {
		if err := <-states; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("somebody heard of %v", err)
		}
	}
	control.NewHTTP(dialer.DialContext, "127.0.0.1:9").Move() // nothing is open yet
}
