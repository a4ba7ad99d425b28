package localapi

import (
	"context"
	"encoding/json"
	"net/http"
	"net/netip"
	"net/url"
	"time"
)

const (
	pathStudies = "/v1/studies"
	pathTrace   = "/v1/trace"
)

// States of an object that a person gets to read.
const (
	StateWaiting   = "waiting"
	StateSending   = "sending" // being delivered, or in the hands of what sends it
	StateInDoubt   = "in doubt"
	StateCarried   = "carried" // the far gateway has it
	StateDelivered = "delivered"
	StateParked    = "parked"
	StateDropped   = "dropped" // by an operator
	// StateGone is what is no longer here, without a word of its end.
	StateGone = "gone"
)

// Study is what passed of one study through one queue, without patient data.
type Study struct {
	Service string `json:"service"`
	Queue   string `json:"queue"`
	// Study is a short keyed hash of its UID, of this box alone.
	Study        string `json:"study"`
	Associations int    `json:"associations"`
	Objects      int    `json:"objects"`
	Bytes        int64  `json:"bytes"`
	// How many objects are in which state now. What is gone is none of them.
	Waiting   int `json:"waiting"`
	Sending   int `json:"sending"`
	InDoubt   int `json:"in_doubt"`
	Carried   int `json:"carried"`
	Delivered int `json:"delivered"`
	Parked    int `json:"parked"`
	Dropped   int `json:"dropped"`
	// Urgent is how many of those that wait, are being sent or parked are.
	Urgent int       `json:"urgent"`
	First  time.Time `json:"first"`
	Last   time.Time `json:"last"`
	// Callers are AE titles with their addresses, Reasons why objects are parked or failed last; both are some, not all.
	Callers []string `json:"callers,omitempty"`
	Reasons []string `json:"reasons,omitempty"`
}

// TracedItem is the way of one object through one queue. Times that are not known are zero.
type TracedItem struct {
	Service string `json:"service"`
	Queue   string `json:"queue"`
	Item    string `json:"item"`
	State   string `json:"state"`
	// Study is that of Study.Study; empty if it is not known.
	Study string `json:"study,omitempty"`
	Size  int64  `json:"size"`
	// Taken is when it was stored here: from a device, or, with From set, from the gateway of that site.
	Taken   time.Time  `json:"taken,omitzero"`
	Calling string     `json:"calling,omitempty"`
	Address netip.Addr `json:"address,omitzero"`
	From    string     `json:"from,omitempty"`
	// Carried is when the gateway of the site To had it.
	Carried time.Time `json:"carried,omitzero"`
	To      string    `json:"to,omitempty"`
	// Delivered is when the receiver's answer was known here.
	Delivered time.Time `json:"delivered,omitzero"`
	Receiver  string    `json:"receiver,omitempty"`
	Code      string    `json:"code,omitempty"`
	Parked    time.Time `json:"parked,omitzero"`
	Dropped   time.Time `json:"dropped,omitzero"`
	// Attempts failed; Reason is why the last one did, and Next when there is another.
	Attempts int       `json:"attempts,omitempty"`
	Reason   string    `json:"reason,omitempty"`
	Next     time.Time `json:"next,omitzero"`
	Urgent   bool      `json:"urgent,omitempty"`
}

// Trace is what a box knows of a UID.
type Trace struct {
	// Items are there if it is that of an object, Studies if it is that of a study.
	Items   []TracedItem `json:"items,omitempty"`
	Studies []Study      `json:"studies,omitempty"`
	// Damaged counts records of the history that cannot be read: something may be missing.
	Damaged int `json:"damaged,omitempty"`
}

// Known reports whether there is anything.
func (t Trace) Known() bool { return len(t.Items)+len(t.Studies) > 0 }

// Tracer is a Gateway that remembers what became of DICOM objects.
type Tracer interface {
	// Studies returns those of a service, or of all with an empty name, the latest first.
	Studies(ctx context.Context, service string) ([]Study, error)
	// Trace looks for a SOP Instance UID or Study Instance UID.
	Trace(ctx context.Context, uid string) (Trace, error)
}

// traceRequest has the UID, which may lead to a patient: it is in no path, which may be logged.
type traceRequest struct {
	UID string `json:"uid"`
}

func handleTraces(mux *http.ServeMux, g Gateway) {
	t, ok := g.(Tracer)
	if !ok {
		return
	}
	mux.HandleFunc("GET "+pathStudies, func(w http.ResponseWriter, r *http.Request) {
		v, err := t.Studies(r.Context(), r.URL.Query().Get("service"))
		answerOr(w, v, err)
	})
	mux.HandleFunc("POST "+pathTrace, func(w http.ResponseWriter, r *http.Request) {
		var q traceRequest
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&q); err != nil || q.UID == "" {
			http.Error(w, "the request has no UID", http.StatusBadRequest)
			return
		}
		v, err := t.Trace(r.Context(), q.UID)
		answerOr(w, v, err)
	})
}

// Studies implements Tracer.
func (c *Client) Studies(ctx context.Context, service string) ([]Study, error) {
	var v []Study
	err := newClient(c.path, searchWait).call(ctx, http.MethodGet, pathStudies+"?service="+url.QueryEscape(service), nil, &v)
	return v, err
}

// Trace implements Tracer.
func (c *Client) Trace(ctx context.Context, uid string) (Trace, error) {
	var v Trace
	err := newClient(c.path, searchWait).call(ctx, http.MethodPost, pathTrace, traceRequest{UID: uid}, &v)
	return v, err
}
