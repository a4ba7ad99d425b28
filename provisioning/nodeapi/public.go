package nodeapi

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/towpath/towpath/provisioning/coordinator"
	"github.com/towpath/towpath/provisioning/wire"
)

// Limits of the public side, against callers who have no business here.
const (
	// maxEnrolling bounds the requests that are being opened or decided at the same time.
	maxEnrolling = 32
	// maxTurnWait is how long one more waits for its turn.
	maxTurnWait = 5 * time.Second
	// enrollTimeout bounds reading, deciding and answering one.
	enrollTimeout = 30 * time.Second
)

// NewServer returns a server for h with the time limits that both sides need: none for writing, because a watch stream is endless and
// bounds each of its writes itself.
func NewServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
}

// Public serves wire.PathIdentity and wire.PathEnroll, and tells a person with a browser what this is.
func Public(c *coordinator.Coordinator) http.Handler {
	p := &public{c: c, busy: make(chan struct{}, maxEnrolling)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", p.about)
	mux.HandleFunc("GET "+wire.PathIdentity, p.identity)
	mux.HandleFunc("POST "+wire.PathEnroll, p.enroll)
	return mux
}

type public struct {
	c    *coordinator.Coordinator
	busy chan struct{}
}

func (p *public) about(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, "Towpath coordinator: boxes enroll here. There is nothing to see.\n")
}

func (p *public) identity(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(p.c.Identity())
}

func (p *public) enroll(w http.ResponseWriter, r *http.Request) {
	// The recorder of a test has no connection, so no deadline: that is all that can fail here.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(enrollTimeout))
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(enrollTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, wire.MaxEnrollBody))
	if err != nil {
		status := http.StatusBadRequest
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			status = http.StatusRequestEntityTooLarge
		}
		http.Error(w, "the request could not be read", status)
		return
	}
	// The turn is taken behind the reading, so that nobody can keep others waiting by sending slowly.
	turn := time.NewTimer(maxTurnWait)
	defer turn.Stop()
	select {
	case p.busy <- struct{}{}:
		defer func() { <-p.busy }()
	case <-turn.C:
		w.Header().Set("Retry-After", "5")
		http.Error(w, "too many enrolments at the same time, try again in a moment", http.StatusServiceUnavailable)
		return
	case <-r.Context().Done():
		return
	}
	req, sealer, err := p.c.OpenEnroll(body)
	if sealer == nil {
		// Nothing of the error goes out: whoever sealed for another key or changed a byte learns nothing from which step failed.
		http.Error(w, "the request could not be opened: it is damaged or for another coordinator", http.StatusBadRequest)
		return
	}
	answer := wire.EnrollResponse{Now: time.Now().UTC(), Error: &wire.Refusal{
		Code: "invalid", Message: "the request makes no sense", Hint: "update the box, or the coordinator if the box is newer",
	}}
	if err == nil {
		answer = p.c.Enroll(r.Context(), req, r.RemoteAddr)
	}
	sealed, err := sealer.Seal(answer)
	if err != nil {
		http.Error(w, "the answer could not be sealed", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(sealed)
}
