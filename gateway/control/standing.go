package control

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// StandingQuestion is a box's question whether it is still in the network, asked without the tunnel.
type StandingQuestion struct {
	Ways Ways
	// URLs and Seal are those of the box's map, see wire.Hub.
	URLs []string
	Seal []byte
	Node string
	Key  wgkey.PublicKey
}

// Ask tries all addresses by each of the ways, one after the other, and returns the first answer. Nobody on the way can read or change
// question or answer. An error is that of the last try.
func (q StandingQuestion) Ask(ctx context.Context) (wire.StandingResponse, error) {
	err := ErrUnreachable
	for _, w := range q.Ways.order() {
		for _, u := range q.URLs {
			var r wire.StandingResponse
			if r, err = q.at(ctx, w, u); err == nil || ctx.Err() != nil {
				return r, err
			}
		}
	}
	return wire.StandingResponse{}, err
}

// AskAtOnce tries all addresses by all ways at the same time, for a box that cannot wait.
func (q StandingQuestion) AskAtOnce(ctx context.Context) (wire.StandingResponse, error) {
	type answer struct {
		wire.StandingResponse

		err error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ways := q.Ways.order()
	all := make(chan answer, len(ways)*len(q.URLs))
	for _, w := range ways {
		for _, u := range q.URLs {
			go func() {
				r, err := q.at(ctx, w, u)
				all <- answer{r, err}
			}()
		}
	}
	err := ErrUnreachable
	for range cap(all) {
		a := <-all
		if a.err == nil {
			return a.StandingResponse, nil
		}
		err = a.err
	}
	return wire.StandingResponse{}, err
}

// at tries one address in one way.
func (q StandingQuestion) at(ctx context.Context, w way, base string) (wire.StandingResponse, error) {
	base = strings.TrimRight(base, "/")
	u, err := url.Parse(base)
	if err != nil {
		return wire.StandingResponse{}, errors.New("the map names an address that is none")
	}
	routes, err := w.routes(u)
	if err != nil {
		return wire.StandingResponse{}, err
	}
	err = errSkipped
	for _, r := range routes {
		var resp wire.StandingResponse
		resp, err = q.try(ctx, r, base)
		if up, ok := errors.AsType[*upgradeError](err); ok {
			resp, err = q.try(ctx, r, up.base)
		}
		if err == nil || ctx.Err() != nil {
			return resp, err
		}
	}
	return wire.StandingResponse{}, err
}

func (q StandingQuestion) try(ctx context.Context, r route, base string) (wire.StandingResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	client := r.client(q.Ways.dial)
	defer client.CloseIdleConnections()
	body, opener, err := wire.SealStanding(q.Seal, wire.StandingRequest{Format: wire.Format, Node: q.Node, PublicKey: q.Key})
	if err != nil {
		return wire.StandingResponse{}, fmt.Errorf("seal the question: %w", err)
	}
	answer, err := r.call(ctx, client, http.MethodPost, base+wire.PathStanding, body, wire.StandingSize)
	if err != nil {
		return wire.StandingResponse{}, err
	}
	resp, err := opener.Open(answer)
	if err != nil {
		return wire.StandingResponse{}, fmt.Errorf("open the coordinator's answer: %w", err)
	}
	return resp, nil
}
