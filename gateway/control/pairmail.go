package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/towpath/towpath/provisioning/wire"
)

// ErrNoPairMail means that the coordinator is too old to carry messages about preshared keys.
var ErrNoPairMail = errors.New("the coordinator does not carry messages about preshared keys: update it")

// PairMail leaves messages for other boxes and gets theirs. From an older coordinator the error is ErrNoPairMail.
func (h *HTTP) PairMail(ctx context.Context, m wire.PairMail) (wire.PairMailbox, error) {
	const what = "exchange messages about preshared keys"
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	b, err := json.Marshal(m)
	if err != nil {
		return wire.PairMailbox{}, fmt.Errorf(what+": %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.base+wire.PathPairMail, bytes.NewReader(b))
	if err != nil {
		return wire.PairMailbox{}, fmt.Errorf(what+": %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := h.client.Do(req)
	if err != nil {
		return wire.PairMailbox{}, fmt.Errorf(what+": %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusMethodNotAllowed {
		return wire.PairMailbox{}, ErrNoPairMail
	}
	if err := statusError(resp); err != nil {
		return wire.PairMailbox{}, fmt.Errorf(what+": %w", err)
	}
	var box wire.PairMailbox
	if err := json.NewDecoder(io.LimitReader(resp.Body, wire.MaxPairMailBody)).Decode(&box); err != nil {
		return wire.PairMailbox{}, fmt.Errorf(what+": %w", err)
	}
	return box, nil
}
