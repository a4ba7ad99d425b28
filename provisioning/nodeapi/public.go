package nodeapi

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
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

// Public serves wire.PathIdentity, wire.PathEnroll and wire.PathStanding, and tells a person with a browser what this is.
func Public(c *coordinator.Coordinator) http.Handler {
	p := &public{c: c, busy: make(chan struct{}, maxEnrolling)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", p.about)
	mux.HandleFunc("GET "+wire.PathIdentity, p.identity)
	mux.HandleFunc("POST "+wire.PathEnroll, p.enroll)
	mux.HandleFunc("POST "+wire.PathStanding, p.standing)
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
	body, done, ok := p.take(w, r, wire.MaxEnrollBody)
	if !ok {
		return
	}
	defer done()
	req, sealer, err := p.c.OpenEnroll(body)
	if sealer == nil {
		refuseSealed(w)
		return
	}
	answer := wire.EnrollResponse{Now: time.Now().UTC(), Error: &wire.Refusal{
		Code: "invalid", Message: "the request makes no sense", Hint: "update the box, or the coordinator if the box is newer",
	}}
	if err == nil {
		answer = p.c.Enroll(r.Context(), req, r.RemoteAddr)
	}
	sealed, err := sealer.Seal(answer)
	sendSealed(w, sealed, err)
}

// standing answers a Node that does not hear from the hub. Those who ask for what is not there are slowed down before anything is opened,
// and all answers have the same size.
func (p *public) standing(w http.ResponseWriter, r *http.Request) {
	if wait := p.c.StandingWait(r.RemoteAddr); wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(wait/time.Second)+1))
		http.Error(w, "too many questions from this address, try again later", http.StatusTooManyRequests)
		return
	}
	body, done, ok := p.take(w, r, wire.MaxStandingBody)
	if !ok {
		return
	}
	defer done()
	req, sealer, err := p.c.OpenStanding(body)
	if sealer == nil || err != nil {
		refuseSealed(w)
		return
	}
	answer, err := p.c.Standing(r.Context(), req, r.RemoteAddr)
	if err != nil {
		http.Error(w, "the coordinator has a problem of its own, try again later", http.StatusServiceUnavailable)
		return
	}
	sealed, err := sealer.Seal(answer)
	sendSealed(w, sealed, err)
}

// take reads a body and waits for the turn to open it, or answers. The caller calls done.
func (p *public) take(w http.ResponseWriter, r *http.Request, limit int64) (body []byte, done func(), ok bool) {
	// The recorder of a test has no connection, so no deadline: that is all that can fail here.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(enrollTimeout))
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(enrollTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err != nil {
		status := http.StatusBadRequest
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			status = http.StatusRequestEntityTooLarge
		}
		http.Error(w, "the request could not be read", status)
		return nil, nil, false
	}
	// The turn is taken behind the reading, so that nobody can keep others waiting by sending slowly.
	turn := time.NewTimer(maxTurnWait)
	defer turn.Stop()
	select {
	case p.busy <- struct{}{}:
		return body, func() { <-p.busy }, true
	case <-turn.C:
		w.Header().Set("Retry-After", "5")
		http.Error(w, "too many requests at the same time, try again in a moment", http.StatusServiceUnavailable)
	case <-r.Context().Done():
	}
	return nil, nil, false
}

// refuseSealed lets nothing of the error out: whoever sealed for another key or changed a byte learns nothing from which step failed.
func refuseSealed(w http.ResponseWriter) {
	http.Error(w, "the request could not be opened: it is damaged or for another coordinator", http.StatusBadRequest)
}

func sendSealed(w http.ResponseWriter, sealed []byte, err error) {
	if err != nil {
		http.Error(w, "the answer could not be sealed", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(sealed)
}
