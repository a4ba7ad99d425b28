package localapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/towpath/towpath/proxy/dicom"
	"github.com/towpath/towpath/proxy/spool"
)

const pathStudyPriority = "/v1/priorities"

// Prioritizer changes what passes what.
type Prioritizer interface {
	// Prioritize makes a queued or parked item urgent, or routine again.
	Prioritize(ctx context.Context, id string, urgent bool) error
	// PrioritizeStudy does so with all objects of a study, by its Study Instance UID, and returns how many there were: those that the far
	// gateway has are none of them.
	PrioritizeStudy(ctx context.Context, study string, urgent bool) (int, error)
}

// priorityRequest is for one item, or with Study for all objects of one. The UID may lead to a patient: it is in no path, which may be logged.
type priorityRequest struct {
	Study  string `json:"study,omitempty"`
	Urgent bool   `json:"urgent"`
}

// Telling returns the same queues with somebody who hears that priorities were changed.
func (q SpoolQueues) Telling(reordered func()) SpoolQueues {
	q.reordered = reordered
	return q
}

func (q SpoolQueues) told() {
	if q.reordered != nil {
		q.reordered()
	}
}

func priorityOf(urgent bool) int {
	if urgent {
		return spool.Urgent
	}
	return 0
}

// Prioritize changes one.
func (q SpoolQueues) Prioritize(_ context.Context, id string, urgent bool) error {
	if err := q.s.SetPriority(spool.ID(id), priorityOf(urgent)); err != nil {
		return err
	}
	q.told()
	return nil
}

// PrioritizeStudy looks at all items.
func (q SpoolQueues) PrioritizeStudy(ctx context.Context, study string, urgent bool) (int, error) {
	n := 0
	defer q.told()
	for _, queue := range q.s.Stats() {
		err := q.s.Each(queue.Queue, func(it spool.Item) error {
			if study == "" || it.State == spool.StateCarried || it.Meta.Attributes[dicom.AttrStudyInstance] != study {
				return context.Cause(ctx)
			}
			err := q.s.SetPriority(it.ID, priorityOf(urgent))
			switch {
			case err == nil:
				n++
			case !errors.Is(err, spool.ErrUnknown): // that is one delivered since
				return err
			}
			return context.Cause(ctx)
		})
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

func handlePriorities(mux *http.ServeMux, q Prioritizer) {
	read := func(w http.ResponseWriter, r *http.Request) (p priorityRequest, ok bool) {
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&p); err != nil {
			http.Error(w, "the request is no priority", http.StatusBadRequest)
			return p, false
		}
		return p, true
	}
	mux.HandleFunc("POST "+pathItems+"/{id}/priority", func(w http.ResponseWriter, r *http.Request) {
		if p, ok := read(w, r); ok {
			answerOr(w, true, q.Prioritize(r.Context(), r.PathValue("id"), p.Urgent))
		}
	})
	mux.HandleFunc("POST "+pathStudyPriority, func(w http.ResponseWriter, r *http.Request) {
		if p, ok := read(w, r); ok {
			n, err := q.PrioritizeStudy(r.Context(), p.Study, p.Urgent)
			answerOr(w, n, err)
		}
	})
}

// Prioritize changes one.
func (c *Client) Prioritize(ctx context.Context, id string, urgent bool) error {
	return c.call(ctx, http.MethodPost, itemPath(id, "/priority"), priorityRequest{Urgent: urgent}, new(bool))
}

// PrioritizeStudy changes all objects of a study.
func (c *Client) PrioritizeStudy(ctx context.Context, study string, urgent bool) (int, error) {
	var n int
	err := newClient(c.path, searchWait).call(ctx, http.MethodPost, pathStudyPriority, priorityRequest{Study: study, Urgent: urgent}, &n)
	return n, err
}
