package control

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/towpath/towpath/provisioning/wire"
)

// maxSpoolKeys bounds the answer to SpoolKeys, in bytes.
const maxSpoolKeys = 64 << 10

// DepositSpoolKey leaves the private key of the queues with the coordinator.
func (h *HTTP) DepositSpoolKey(ctx context.Context, d wire.SpoolKeyDeposit) error {
	return h.post(ctx, "leave the queue's key with the coordinator", wire.PathSpoolKeys, d)
}

// SpoolKeys gets all keys that this box has left with the coordinator.
func (h *HTTP) SpoolKeys(ctx context.Context) (wire.SpoolKeys, error) {
	const what = "get the queue's keys"
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.base+wire.PathSpoolKeys, http.NoBody)
	if err != nil {
		return wire.SpoolKeys{}, fmt.Errorf(what+": %w", err)
	}
	resp, err := h.client.Do(req)
	if err != nil {
		return wire.SpoolKeys{}, fmt.Errorf(what+": %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if err := statusError(resp); err != nil {
		return wire.SpoolKeys{}, fmt.Errorf(what+": %w", err)
	}
	var keys wire.SpoolKeys
	if json.NewDecoder(io.LimitReader(resp.Body, maxSpoolKeys)).Decode(&keys) != nil { // whose error might quote
		return wire.SpoolKeys{}, fmt.Errorf(what + ": the answer is not what was agreed on")
	}
	return keys, nil
}
