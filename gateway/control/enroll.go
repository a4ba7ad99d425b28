package control

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// maxIdentity bounds the coordinator's public keys in bytes: 1.2 KB, in base64 and JSON.
const maxIdentity = 16 << 10

// Enrolled is what a box gets for its token.
type Enrolled struct {
	NetworkKey ed25519.PublicKey
	Signed     wire.Signed
	NetMap     wire.NetMap
	// Coordinator is the coordinator's clock at its answer. It was sealed, so it is as good as the coordinator.
	Coordinator time.Time
}

// Enroll redeems a token for the key's owner. All addresses of the token are tried, in order, by each of the ways. A refusal by the
// coordinator is returned as *wire.Refusal; *WaitError means that an operator has to agree first, see EnrollPatiently; everything else is
// *EnrollError with the reason of each try, which may be wire.ErrIdentity, wire.ErrSealed, ErrUnreachable, ErrPortal, ErrBlocked,
// ErrNotCoordinator or *ProxyAuthError.
//
// The exchange is sealed, so nobody on the way can read or change it, and an answer fits one request only. Trying again is safe: the same
// key and token give the same node.
func Enroll(ctx context.Context, ways Ways, tok wire.Token, key wgkey.PrivateKey, facts wire.Facts) (Enrolled, error) {
	e, err := newEnroller(ways, tok, key, facts)
	if err != nil {
		return Enrolled{}, err
	}
	return e.ask(ctx)
}

// enroller is one Enroll, or one EnrollPatiently.
type enroller struct {
	ways  Ways
	tok   wire.Token
	pub   wgkey.PublicKey
	facts wire.Facts
	tries []Try
	// down are the proxies that cannot be used at all.
	down map[string]bool
	// last is how the coordinator answered before; nil if it has not.
	last *found
}

// found is a way to the coordinator that has worked.
type found struct {
	route route
	base  string
}

func newEnroller(ways Ways, tok wire.Token, key wgkey.PrivateKey, facts wire.Facts) (*enroller, error) {
	pub, err := key.Public()
	if err != nil {
		return nil, fmt.Errorf("derive the public key: %w", err)
	}
	if len(tok.URLs) == 0 {
		return nil, fmt.Errorf("%w: the token names no address", ErrUnreachable)
	}
	return &enroller{ways: ways, tok: tok, pub: pub, facts: facts}, nil
}

// ask makes the exchange once: as it worked before if it has, else in all ways.
func (e *enroller) ask(ctx context.Context) (Enrolled, error) {
	e.tries, e.down = nil, map[string]bool{}
	if e.last != nil {
		got, err := e.try(ctx, e.last.route, e.last.base)
		if err == nil || answered(err) {
			return got, err
		}
		e.last = nil // the ways below come by it once more
	}
	for _, w := range e.ways.order() {
		got, done, err := e.by(ctx, w)
		if done {
			return got, err
		}
		if ctx.Err() != nil {
			break
		}
	}
	return Enrolled{}, &EnrollError{Tries: e.tries}
}

// answered reports whether an error is the coordinator's own answer.
func answered(err error) bool {
	_, refused := errors.AsType[*wire.Refusal](err)
	_, waits := errors.AsType[*WaitError](err)
	return refused || waits
}

// by tries all addresses of the token in one way. done means that the coordinator has answered, yes or no.
func (e *enroller) by(ctx context.Context, w way) (_ Enrolled, done bool, _ error) {
	ctx, cancel := context.WithTimeout(ctx, wayTimeout)
	defer cancel()
	for _, s := range e.tok.URLs {
		got, err := e.at(ctx, w, strings.TrimRight(s, "/"))
		if up, ok := errors.AsType[*upgradeError](err); ok {
			got, err = e.at(ctx, w, up.base)
		}
		if err == nil {
			return got, true, nil
		}
		if answered(err) {
			return Enrolled{}, true, err
		}
	}
	return Enrolled{}, false, nil
}

// at tries one address in one way and notes what failed. It returns the last reason.
func (e *enroller) at(ctx context.Context, w way, base string) (Enrolled, error) {
	u, err := url.Parse(base)
	if err != nil {
		return Enrolled{}, e.note(base, "", errors.New("this is no address"))
	}
	routes, err := w.routes(u)
	if err != nil {
		return Enrolled{}, e.note(base, "through a proxy", err)
	}
	last := errSkipped
	for _, r := range routes {
		if e.down[r.proxy.host] {
			return Enrolled{}, last
		}
		if ctx.Err() != nil {
			return Enrolled{}, e.note(base, r.String(), &silence{errNoTime})
		}
		got, err := e.try(ctx, r, base)
		if err == nil || answered(err) {
			e.last = &found{r, base}
			return got, err
		}
		last = e.note(base, r.String(), err)
		_, down := errors.AsType[*downError](err)
		_, auth := errors.AsType[*ProxyAuthError](err)
		if (down || auth) && !r.proxy.IsZero() {
			e.down[r.proxy.host] = true
		}
		if errors.Is(err, context.DeadlineExceeded) {
			return Enrolled{}, last // the address is silent, and would be in the tunnel too
		}
	}
	return Enrolled{}, last
}

// errSkipped is the outcome of an address that this way has nothing for, or whose proxy is known not to work.
var errSkipped = errors.New("not tried")

// errNoTime is why an address was not tried after others had used up the time.
var errNoTime = errors.New("not tried, no time was left")

func (e *enroller) note(base, how string, err error) error {
	e.tries = append(e.tries, Try{URL: base, How: how, Err: err})
	return err
}

// try makes the whole exchange over one route.
func (e *enroller) try(ctx context.Context, r route, base string) (Enrolled, error) {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	client := r.client(e.ways.dial)
	defer client.CloseIdleConnections()

	b, err := r.call(ctx, client, http.MethodGet, base+wire.PathIdentity, nil, maxIdentity)
	if err != nil {
		return Enrolled{}, err
	}
	var id wire.Identity
	if err := json.Unmarshal(b, &id); err != nil {
		return Enrolled{}, ErrNotCoordinator
	}
	if err := id.Verify(e.tok.Fingerprint); err != nil {
		return Enrolled{}, err
	}
	sealed, opener, err := wire.SealRequest(id, wire.EnrollRequest{
		Format: wire.Format, TokenID: e.tok.ID, Secret: e.tok.Secret[:], PublicKey: e.pub, Kind: e.ways.As, Now: time.Now().UTC(),
		Facts: e.facts,
	})
	if err != nil {
		return Enrolled{}, fmt.Errorf("seal the request: %w", err)
	}
	answer, err := r.call(ctx, client, http.MethodPost, base+wire.PathEnroll, sealed, wire.MaxEnrollResponse)
	if err != nil {
		return Enrolled{}, err
	}
	resp, err := opener.Open(answer)
	if err != nil {
		return Enrolled{}, fmt.Errorf("open the coordinator's answer: %w", err)
	}
	return e.accept(id, resp)
}

// accept checks what the coordinator has answered.
func (e *enroller) accept(id wire.Identity, resp wire.EnrollResponse) (Enrolled, error) {
	if resp.Error != nil {
		return Enrolled{}, resp.Error
	}
	if resp.Wait != nil {
		return Enrolled{}, newWaitError(*resp.Wait)
	}
	if resp.NetMap == nil {
		return Enrolled{}, errors.New("the coordinator's answer holds no NetMap")
	}
	m, err := resp.NetMap.Open(id.Network)
	if err != nil {
		return Enrolled{}, fmt.Errorf("verify the first NetMap: %w", err)
	}
	if m.Self.PublicKey != e.pub {
		return Enrolled{}, errors.New("the coordinator's NetMap is for another key than this box's")
	}
	return Enrolled{NetworkKey: id.Network, Signed: *resp.NetMap, NetMap: m, Coordinator: resp.Now}, nil
}

// call makes one HTTP exchange whose answer has limit bytes at most.
func (r route) call(ctx context.Context, client *http.Client, method, address string, body []byte, limit int64) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	if a := r.proxy.authorization(); a != "" && !r.connect {
		req.Header.Set("Proxy-Authorization", a)
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, transportError(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	// A page that was cut short still says what it is.
	if wrong := judge(resp, b, r.proxy); wrong != nil {
		return nil, wrong
	}
	if err != nil {
		return nil, transportError(ctx, err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%w: the answer is longer than %d bytes", ErrNotCoordinator, limit)
	}
	return b, nil
}

// silence is the reason of a try that nobody answered.
type silence struct{ cause error }

func (s *silence) Error() string   { return brief(s.cause) }
func (s *silence) Unwrap() []error { return []error{ErrUnreachable, s.cause} }

// brief is the text of an error, shorter if it only means that time is up.
func brief(err error) string {
	if _, down := errors.AsType[*downError](err); !down && errors.Is(err, context.DeadlineExceeded) {
		return "no answer in time"
	}
	return err.Error()
}

// transportError keeps of an error of net/http what a person needs. A proxy's own refusal stays what it is.
func transportError(ctx context.Context, err error) error {
	if auth, ok := errors.AsType[*ProxyAuthError](err); ok {
		return auth
	}
	for _, named := range []error{ErrPortal, ErrBlocked} {
		if errors.Is(err, named) {
			return rootOf(err)
		}
	}
	if down, ok := errors.AsType[*downError](err); ok {
		return &silence{down}
	}
	return &silence{cmp.Or(context.Cause(ctx), rootOf(err))}
}

// rootOf takes off the method and address that net/http puts in front, which the list of tries has already.
func rootOf(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}
