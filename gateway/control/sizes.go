package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"

	"github.com/towpath/towpath/provisioning/wire"
)

// ErrNoAnswer means that nothing came in time; other errors of Sizes are answers of a kind.
var ErrNoAnswer = errors.New("no answer in time")

// Sizes sends n bytes to the coordinator and has as many come back, over a connection of its own, whose segments are as large as the tunnel's MTU
// is now. N is at most wire.MaxSizes. When ctx ends before it is ErrNoAnswer.
func (h *HTTP) Sizes(ctx context.Context, n int) error {
	const what = "try packets of full size"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.base+wire.PathSizes, bytes.NewReader(make([]byte, n)))
	if err != nil {
		return fmt.Errorf(what+": %w", err)
	}
	resp, err := h.fresh.Do(req)
	if err != nil {
		return fmt.Errorf(what+": %w", unanswered(err))
	}
	defer func() { _ = resp.Body.Close() }()
	if err := statusError(resp); err != nil {
		return fmt.Errorf(what+": %w", err)
	}
	got, err := io.Copy(io.Discard, io.LimitReader(resp.Body, wire.MaxSizes))
	switch {
	case err != nil:
		return fmt.Errorf(what+": %w", unanswered(err))
	case got != int64(n):
		return fmt.Errorf(what+": %d of %d bytes came back", got, n)
	}
	return nil
}

// unanswered tells an end of patience from an answer.
func unanswered(err error) error {
	if ne, ok := errors.AsType[net.Error](err); errors.Is(err, context.DeadlineExceeded) || ok && ne.Timeout() {
		return ErrNoAnswer
	}
	return err
}
