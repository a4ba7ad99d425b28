package coordinator

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/wire"
)

const (
	// DefaultTokenTTL is how long a token can be used unless its maker says otherwise.
	DefaultTokenTTL = 72 * time.Hour
	// MaxTokenTTL bounds it: a token in a drawer is a key in a drawer.
	MaxTokenTTL = 90 * 24 * time.Hour
)

// TokenState says whether a token still works.
type TokenState string

// The states of a token.
const (
	TokenOpen    TokenState = "open"
	TokenUsed    TokenState = "used"
	TokenExpired TokenState = "expired"
	TokenRevoked TokenState = "revoked"
)

// TokenInfo is a token, its Site and its state now.
type TokenInfo struct {
	provisioning.Token
	SiteName string
	State    TokenState
}

func stateOf(t provisioning.Token, now time.Time) TokenState {
	switch {
	case !t.Revoked.IsZero():
		return TokenRevoked
	case len(t.Uses) >= t.Limit:
		return TokenUsed
	case !now.Before(t.Expires):
		return TokenExpired
	}
	return TokenOpen
}

// secretContext separates the stored hashes from any other use of SHA-256. The secret has 128 random bits, so a slow hash adds nothing.
const secretContext = "token v1\x00"

func hashSecret(secret []byte) [sha256.Size]byte {
	return sha256.Sum256(append([]byte(secretContext), secret...))
}

// CreateToken makes a one-time token for a gateway at a Site. A ttl of 0 is DefaultTokenTTL. The address is what the box will have, such as
// that of one it takes the place of; the zero value lets the coordinator choose. The wire.Token is the only copy of the secret.
func (c *Coordinator) CreateToken(ctx context.Context, actor, site string, ttl time.Duration, address netip.Addr) (TokenInfo, wire.Token, error) {
	if ttl == 0 {
		ttl = DefaultTokenTTL
	}
	if ttl < time.Minute || ttl > MaxTokenTTL {
		return TokenInfo{}, wire.Token{}, provisioning.Errorf(provisioning.Invalid,
			"a token cannot be good for %s", ttl).WithHint("choose between one minute and 90 days")
	}
	var stored TokenInfo
	var text wire.Token
	err := c.st.Update(ctx, func(tx store.Tx) error {
		s, err := siteNamed(tx, site)
		if err != nil {
			return err
		}
		if address.IsValid() {
			ranges, err := tx.Ranges().Of(string(s.ID))
			if err != nil {
				return fmt.Errorf("read the plan: %w", err)
			}
			// Whether it is taken matters when the token is used: the box that has it now may be gone by then.
			if err := checkFixed(address, s, ranges, provisioning.PurposeOverlay, nil); err != nil {
				return err
			}
		}
		set, err := readSettings(tx)
		if err != nil {
			return err
		}
		at := c.stamp()
		text = wire.Token{
			ID:          string(provisioning.NewTokenID()),
			Secret:      wire.NewSecret(),
			Fingerprint: c.keys.Identity().Fingerprint(),
			URLs:        set.URLs,
		}
		if err := text.Check(); err != nil {
			return provisioning.Errorf(provisioning.Invalid, "no token can be made: %s", err).WithHint("shorten the coordinator's addresses")
		}
		stored = TokenInfo{SiteName: s.Name, State: TokenOpen, Token: provisioning.Token{
			ID: provisioning.TokenID(text.ID), Site: s.ID, Kind: wire.Gateway, Limit: 1, Hash: hashSecret(text.Secret[:]), Address: address,
			Created: at, Expires: at.Add(ttl),
		}}
		if err := tx.Tokens().Create(stored.Token); err != nil {
			return fmt.Errorf("store the token: %w", err)
		}
		return record(tx, at, actor, "token.create", text.ID, fmt.Sprintf("site %s, until %s", s.Name, stored.Expires.Format(time.RFC3339)))
	})
	if err != nil {
		return TokenInfo{}, wire.Token{}, err
	}
	return stored, text, nil
}

// Tokens returns all, newest first.
func (c *Coordinator) Tokens(ctx context.Context) ([]TokenInfo, error) {
	var infos []TokenInfo
	err := c.st.View(ctx, func(tx store.Tx) error {
		tokens, err := tx.Tokens().List()
		if err != nil {
			return err
		}
		names, err := siteNames(tx)
		if err != nil {
			return err
		}
		now := c.stamp()
		infos = make([]TokenInfo, 0, len(tokens))
		for _, t := range tokens {
			infos = append(infos, TokenInfo{Token: t, SiteName: names[t.Site], State: stateOf(t, now)})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the tokens: %w", err)
	}
	return infos, nil
}

// RevokeToken withdraws a token that was not used. A node that it enrolled is removed by itself.
func (c *Coordinator) RevokeToken(ctx context.Context, actor string, id provisioning.TokenID) error {
	return c.st.Update(ctx, func(tx store.Tx) error {
		t, err := tx.Tokens().ByID(id)
		if errors.Is(err, store.ErrNotFound) {
			return provisioning.Errorf(provisioning.NotFound, "there is no token %q", clean(string(id), maxShort)).
				WithHint("the list of tokens shows the ids")
		}
		if err != nil {
			return fmt.Errorf("read the token: %w", err)
		}
		switch at := c.stamp(); stateOf(t, at) {
		case TokenRevoked:
			return nil
		case TokenUsed:
			return provisioning.Errorf(provisioning.Conflict, "the token was used on %s by node %s",
				t.Uses[0].At.Format(time.DateTime), t.Uses[0].Node).
				WithHint("remove that node if it shall not be in the network")
		default:
			if err := tx.Tokens().Revoke(id, at); err != nil {
				return fmt.Errorf("revoke the token: %w", err)
			}
			return record(tx, at, actor, "token.revoke", string(id), "")
		}
	})
}

func siteNames(tx store.Tx) (map[provisioning.SiteID]string, error) {
	sites, err := tx.Sites().List()
	if err != nil {
		return nil, err
	}
	names := make(map[provisioning.SiteID]string, len(sites))
	for _, s := range sites {
		names[s.ID] = s.Name
	}
	return names, nil
}
