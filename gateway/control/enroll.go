package control

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// ErrUnreachable means that none of the token's addresses answered.
var ErrUnreachable = errors.New("the coordinator cannot be reached")

const (
	enrollTimeout = 30 * time.Second
	// maxIdentity bounds the coordinator's public keys: 1.2 KB, in base64 and JSON.
	maxIdentity = 16 << 10
)

// Enrolled is what a box gets for its token.
type Enrolled struct {
	NetworkKey ed25519.PublicKey
	Signed     wire.Signed
	NetMap     wire.NetMap
	// Coordinator is the coordinator's clock at its answer.
	Coordinator time.Time
}

// Enroll redeems a token for the key's owner. The token's addresses are tried in order. A refusal by the coordinator is returned as
// *wire.Refusal; the exchange is sealed, so nobody on the way can read, change or replay it.
func Enroll(ctx context.Context, client *http.Client, tok wire.Token, key wgkey.PrivateKey, facts wire.Facts) (Enrolled, error) {
	if len(tok.URLs) == 0 {
		return Enrolled{}, fmt.Errorf("%w: the token names no address", ErrUnreachable)
	}
	var errs []error
	for _, u := range tok.URLs {
		e, err := enrollAt(ctx, client, strings.TrimRight(u, "/"), tok, key, facts)
		if err == nil {
			return e, nil
		}
		if _, refused := errors.AsType[*wire.Refusal](err); refused {
			return Enrolled{}, err
		}
		errs = append(errs, fmt.Errorf("%s: %w", u, err))
	}
	return Enrolled{}, errors.Join(errs...)
}

func enrollAt(ctx context.Context, client *http.Client, base string, tok wire.Token, key wgkey.PrivateKey, facts wire.Facts) (Enrolled, error) {
	ctx, cancel := context.WithTimeout(ctx, enrollTimeout)
	defer cancel()

	b, err := call(ctx, client, http.MethodGet, base+wire.PathIdentity, nil, maxIdentity)
	if err != nil {
		return Enrolled{}, err
	}
	var id wire.Identity
	if err := json.Unmarshal(b, &id); err != nil {
		return Enrolled{}, errors.New("something answered that is no coordinator: check the address, or a proxy on the way")
	}
	if err := id.Verify(tok.Fingerprint); err != nil {
		return Enrolled{}, err
	}
	pub, err := key.Public()
	if err != nil {
		return Enrolled{}, fmt.Errorf("derive the public key: %w", err)
	}
	sealed, opener, err := wire.SealRequest(id, wire.EnrollRequest{
		Format: wire.Format, TokenID: tok.ID, Secret: tok.Secret[:], PublicKey: pub, Now: time.Now().UTC(), Facts: facts,
	})
	if err != nil {
		return Enrolled{}, fmt.Errorf("seal the request: %w", err)
	}
	answer, err := call(ctx, client, http.MethodPost, base+wire.PathEnroll, sealed, wire.MaxEnrollResponse)
	if err != nil {
		return Enrolled{}, err
	}
	resp, err := opener.Open(answer)
	if err != nil {
		return Enrolled{}, fmt.Errorf("open the coordinator's answer: %w", err)
	}
	if resp.Error != nil {
		return Enrolled{}, resp.Error
	}
	if resp.NetMap == nil {
		return Enrolled{}, errors.New("the coordinator's answer holds no NetMap")
	}
	m, err := resp.NetMap.Open(id.Network)
	if err != nil {
		return Enrolled{}, fmt.Errorf("verify the first NetMap: %w", err)
	}
	if m.Self.PublicKey != pub {
		return Enrolled{}, errors.New("the coordinator's NetMap is for another key than this box's")
	}
	return Enrolled{NetworkKey: id.Network, Signed: *resp.NetMap, NetMap: m, Coordinator: resp.Now}, nil
}

// call makes one HTTP exchange whose answer has limit bytes at most.
func call(ctx context.Context, client *http.Client, method, url string, body []byte, limit int64) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("%w: read the answer: %w", ErrUnreachable, err)
	}
	if resp.StatusCode/100 != 2 {
		return nil, fmt.Errorf("it answered %s: %s", resp.Status, strings.TrimSpace(string(b[:min(len(b), 200)])))
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("the answer is longer than %d bytes", limit)
	}
	return b, nil
}
