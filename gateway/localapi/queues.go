package localapi

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/towpath/towpath/proxy/spool"
	"github.com/towpath/towpath/tunnel/capture"
)

// Paths of the queues.
const (
	pathQueues = "/v1/queues"
	pathItems  = "/v1/items"
)

// MaxItems bounds one list of items.
const MaxItems = 10000

// QueueItem is one unit in a queue.
type QueueItem struct {
	ID    string `json:"id"`
	Queue string `json:"queue"`
	// State is "queued", "parked" or "carried".
	State  string `json:"state"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
	// Locked means that the item is encrypted and the key is not there: there is no digest then.
	Locked  bool      `json:"locked,omitempty"`
	Created time.Time `json:"created"`
	// Attempts counts deliveries tried; LastError is why the last one failed and NotBefore when the next may start.
	Attempts  int       `json:"attempts"`
	LastError string    `json:"last_error,omitempty"`
	NotBefore time.Time `json:"not_before,omitzero"`
	// Priority is 0 for routine up to spool.MaxPriority for the most urgent.
	Priority int `json:"priority,omitempty"`
	// Attributes tell objects and messages apart and so may lead to a patient: they are in the answer of Item only.
	Attributes map[string]string `json:"attributes,omitempty"`
}

// Queues is what an operator may do with what waits on a box. Errors that callers match are spool.ErrUnknown and spool.ErrLeased.
type Queues interface {
	Stats(ctx context.Context) ([]spool.QueueStats, error)
	// Items returns up to limit items of a queue, 1 to MaxItems, oldest first, without attributes.
	Items(ctx context.Context, queue string, limit int) ([]QueueItem, error)
	Item(ctx context.Context, id string) (QueueItem, error)
	// Payload reads what is to be delivered. The caller closes it.
	Payload(ctx context.Context, id string) (io.ReadCloser, error)
	Retrier
	// Hold keeps an item from being delivered until Retry.
	Hold(ctx context.Context, id string) error
	// Drop deletes an item for good, undelivered.
	Drop(ctx context.Context, id string) error
	Prioritizer
}

// Retrier has items tried again.
type Retrier interface {
	// Retry makes an item due now, parked, waiting or carried; RetryAll all items of a queue that are parked or wait, and returns how many.
	Retry(ctx context.Context, id string) error
	RetryAll(ctx context.Context, queue string) (int, error)
}

// heldReason is what an item tells that a person has put on hold.
const heldReason = "held by an operator"

// SpoolQueues are the Queues of an open Spool.
type SpoolQueues struct {
	s *spool.Spool
	// reordered may be nil.
	reordered func()
}

// QueuesOf makes them.
func QueuesOf(s *spool.Spool) SpoolQueues { return SpoolQueues{s: s} }

// Stats counts.
func (q SpoolQueues) Stats(context.Context) ([]spool.QueueStats, error) { return q.s.Stats(), nil }

// Items lists.
func (q SpoolQueues) Items(_ context.Context, queue string, limit int) ([]QueueItem, error) {
	items, err := q.s.List(queue, min(max(limit, 1), MaxItems))
	if err != nil {
		return nil, err
	}
	out := make([]QueueItem, 0, len(items))
	for _, i := range items {
		v := itemView(i)
		v.Attributes = nil
		out = append(out, v)
	}
	return out, nil
}

// Item describes one.
func (q SpoolQueues) Item(_ context.Context, id string) (QueueItem, error) {
	i, err := q.s.Get(spool.ID(id))
	if err != nil {
		return QueueItem{}, err
	}
	return itemView(i), nil
}

// Payload reads the bytes of one.
func (q SpoolQueues) Payload(_ context.Context, id string) (io.ReadCloser, error) {
	return q.s.Payload(spool.ID(id))
}

// Retry makes one due.
func (q SpoolQueues) Retry(_ context.Context, id string) error { return q.s.RetryNow(spool.ID(id)) }

// RetryAll makes all of a queue due.
func (q SpoolQueues) RetryAll(_ context.Context, queue string) (int, error) {
	return q.s.RetryParked(queue)
}

// Hold parks one.
func (q SpoolQueues) Hold(_ context.Context, id string) error {
	return q.s.Hold(spool.ID(id), heldReason)
}

// Drop deletes one.
func (q SpoolQueues) Drop(_ context.Context, id string) error { return q.s.Drop(spool.ID(id)) }

func itemView(i spool.Item) QueueItem {
	v := QueueItem{
		ID: string(i.ID), Queue: i.Meta.Queue, State: string(i.State), Size: i.Size, SHA256: hex.EncodeToString(i.SHA256[:]), Created: i.Created,
		Attempts: i.Attempts, LastError: i.LastError, NotBefore: i.NotBefore, Priority: i.Meta.Priority, Attributes: i.Meta.Attributes, Locked: i.Locked,
	}
	if i.Locked {
		v.SHA256 = ""
	}
	return v
}

// handleQueues serves q.
func handleQueues(mux *http.ServeMux, q Queues) {
	mux.HandleFunc("GET "+pathQueues, func(w http.ResponseWriter, r *http.Request) {
		v, err := q.Stats(r.Context())
		answerOr(w, v, err)
	})
	mux.HandleFunc("GET "+pathQueues+"/{queue}", func(w http.ResponseWriter, r *http.Request) {
		limit, err := strconv.Atoi(r.URL.Query().Get("limit"))
		if err != nil {
			limit = MaxItems
		}
		v, err := q.Items(r.Context(), r.PathValue("queue"), limit)
		answerOr(w, v, err)
	})
	mux.HandleFunc("POST "+pathQueues+"/{queue}/retry", func(w http.ResponseWriter, r *http.Request) {
		n, err := q.RetryAll(r.Context(), r.PathValue("queue"))
		answerOr(w, n, err)
	})
	mux.HandleFunc("GET "+pathItems+"/{id}", func(w http.ResponseWriter, r *http.Request) {
		v, err := q.Item(r.Context(), r.PathValue("id"))
		answerOr(w, v, err)
	})
	mux.HandleFunc("GET "+pathItems+"/{id}/payload", func(w http.ResponseWriter, r *http.Request) {
		sendPayload(w, r, q)
	})
	handlePriorities(mux, q)
	for verb, do := range map[string]func(context.Context, string) error{
		"POST %s/{id}/retry": q.Retry, "POST %s/{id}/hold": q.Hold, "DELETE %s/{id}": q.Drop,
	} {
		mux.HandleFunc(fmt.Sprintf(verb, pathItems), func(w http.ResponseWriter, r *http.Request) {
			answerOr(w, true, do(r.Context(), r.PathValue("id")))
		})
	}
}

// sendPayload cuts the connection when the payload turns out to be damaged, so that nobody takes a part of it for all.
func sendPayload(w http.ResponseWriter, r *http.Request, q Queues) {
	p, err := q.Payload(r.Context(), r.PathValue("id"))
	if err != nil {
		answerOr(w, nil, err)
		return
	}
	defer func() { _ = p.Close() }()
	w.Header().Set("Content-Type", "application/octet-stream")
	if _, err := io.Copy(w, p); err != nil {
		panic(http.ErrAbortHandler)
	}
}

// answerOr answers with v, or with what is wrong.
func answerOr(w http.ResponseWriter, v any, err error) {
	if err == nil {
		answer(w, v)
		return
	}
	status := http.StatusInternalServerError
	switch {
	case errors.Is(err, spool.ErrUnknown):
		status = http.StatusNotFound
	case errors.Is(err, spool.ErrLeased):
		status = http.StatusConflict
	case errors.Is(err, ErrNoFirewall), errors.Is(err, ErrUnknownPeer), errors.Is(err, capture.ErrBusy):
		status = http.StatusUnprocessableEntity
	case errors.Is(err, spool.ErrNoKey):
		status = http.StatusLocked
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(err.Error())
}

// Stats implements Queues, as do the methods that follow.
func (c *Client) Stats(ctx context.Context) ([]spool.QueueStats, error) {
	var v []spool.QueueStats
	err := c.call(ctx, http.MethodGet, pathQueues, nil, &v)
	return v, err
}

// Items lists.
func (c *Client) Items(ctx context.Context, queue string, limit int) ([]QueueItem, error) {
	var v []QueueItem
	err := c.call(ctx, http.MethodGet, pathQueues+"/"+url.PathEscape(queue)+"?limit="+strconv.Itoa(limit), nil, &v)
	return v, err
}

// Item describes one.
func (c *Client) Item(ctx context.Context, id string) (QueueItem, error) {
	var v QueueItem
	err := c.call(ctx, http.MethodGet, itemPath(id, ""), nil, &v)
	return v, err
}

// Payload reads the bytes of one.
func (c *Client) Payload(ctx context.Context, id string) (io.ReadCloser, error) {
	resp, err := c.send(ctx, http.MethodGet, itemPath(id, "/payload"), nil)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// Retry makes one due.
func (c *Client) Retry(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodPost, itemPath(id, "/retry"), nil, new(bool))
}

// RetryAll makes all of a queue due.
func (c *Client) RetryAll(ctx context.Context, queue string) (int, error) {
	var n int
	err := c.call(ctx, http.MethodPost, pathQueues+"/"+url.PathEscape(queue)+"/retry", nil, &n)
	return n, err
}

// Hold parks one.
func (c *Client) Hold(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodPost, itemPath(id, "/hold"), nil, new(bool))
}

// Drop deletes one.
func (c *Client) Drop(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, itemPath(id, ""), nil, new(bool))
}

func itemPath(id, rest string) string { return pathItems + "/" + url.PathEscape(id) + rest }
