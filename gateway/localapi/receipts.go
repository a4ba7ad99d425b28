package localapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/towpath/towpath/gateway/receipts"
)

const pathReceipts = "/v1/receipts"

// Receipts is a Gateway that keeps a journal of what it delivered.
type Receipts interface {
	// Receipts calls fn with each receipt, oldest first.
	Receipts(ctx context.Context, fn func(receipts.Entry) error) (receipts.Summary, error)
}

// receiptLine is one line of the answer. The last one has Summary.
type receiptLine struct {
	Entry   *receipts.Entry   `json:"entry,omitempty"`
	Summary *receipts.Summary `json:"summary,omitempty"`
}

func handleReceipts(mux *http.ServeMux, g Gateway) {
	j, ok := g.(Receipts)
	if !ok {
		return
	}
	mux.HandleFunc("GET "+pathReceipts, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/x-ndjson")
		out := json.NewEncoder(w)
		sum, err := j.Receipts(r.Context(), func(e receipts.Entry) error { return out.Encode(receiptLine{Entry: &e}) })
		if err != nil {
			panic(http.ErrAbortHandler) // so that nobody takes a part for all
		}
		_ = out.Encode(receiptLine{Summary: &sum})
	})
}

// Receipts implements the interface of that name.
func (c *Client) Receipts(ctx context.Context, fn func(receipts.Entry) error) (receipts.Summary, error) {
	resp, err := c.send(ctx, http.MethodGet, pathReceipts, nil)
	if err != nil {
		return receipts.Summary{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	lines := json.NewDecoder(resp.Body)
	for {
		var l receiptLine
		switch err := lines.Decode(&l); {
		case errors.Is(err, io.EOF):
			return receipts.Summary{}, errors.New("the gateway's answer breaks off")
		case err != nil:
			return receipts.Summary{}, fmt.Errorf("read the receipts: %w", err)
		case l.Summary != nil:
			return *l.Summary, nil
		case l.Entry == nil:
			return receipts.Summary{}, errors.New("the gateway's answer is not what was agreed on")
		}
		if err := fn(*l.Entry); err != nil {
			return receipts.Summary{}, err
		}
	}
}
