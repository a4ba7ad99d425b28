package control

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/towpath/towpath/provisioning/wire"
)

// maxPathsAnswer bounds the answer to Paths, in bytes: 512 for each of the most peers.
const maxPathsAnswer = wire.MaxPathPeers * 512

// Paths asks where relayed peers may be reached directly.
func (h *HTTP) Paths(ctx context.Context, q wire.PathsQuestion) (wire.PathsAnswer, error) {
	const what = "ask where peers are"
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	body, err := json.Marshal(q)
	if err != nil {
		return wire.PathsAnswer{}, fmt.Errorf(what+": %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.base+wire.PathPaths, bytes.NewReader(body))
	if err != nil {
		return wire.PathsAnswer{}, fmt.Errorf(what+": %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := h.client.Do(req)
	if err != nil {
		return wire.PathsAnswer{}, fmt.Errorf(what+": %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if err := statusError(resp); err != nil {
		return wire.PathsAnswer{}, fmt.Errorf(what+": %w", err)
	}
	var a wire.PathsAnswer
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxPathsAnswer)).Decode(&a); err != nil {
		return wire.PathsAnswer{}, fmt.Errorf(what+": the answer is not what was agreed on: %w", err)
	}
	return a, nil
}
