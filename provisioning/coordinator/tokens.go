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
	// MaxTokenLimit is how many Nodes one token enrolls at most.
	MaxTokenLimit = 1000
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

// NewToken describes a token to be made.
type NewToken struct {
	// Site is the name or id of the Site that its boxes are of. A token that replaces a Node has that Node's.
	Site string
	// Kind is wire.Gateway unless given; a token that replaces a Node has that Node's.
	Kind wire.NodeKind
	// TTL is how long it can be used, a minute to MaxTokenTTL; 0 is DefaultTokenTTL.
	TTL time.Duration
	// Address is what the box will have; the zero value lets the coordinator choose.
	Address netip.Addr
	// Limit is how many boxes it enrolls, 1 to MaxTokenLimit; 0 is 1. More than 1 goes with neither Address nor Replaces.
	Limit int
	// Approval lets each box wait for an operator, see ApproveNode.
	Approval bool
	// Replaces is the Node whose place the box takes at once.
	Replaces provisioning.NodeID
}

// check refuses what makes no token, and fills in what need not be said.
func (n *NewToken) check() error {
	if n.TTL == 0 {
		n.TTL = DefaultTokenTTL
	}
	if n.Limit == 0 {
		n.Limit = 1
	}
	switch {
	case n.TTL < time.Minute || n.TTL > MaxTokenTTL:
		return provisioning.Errorf(provisioning.Invalid, "a token cannot be good for %s", n.TTL).WithHint("choose between one minute and 90 days")
	case n.Limit < 1 || n.Limit > MaxTokenLimit:
		return provisioning.Errorf(provisioning.Invalid, "a token cannot be for %d boxes", n.Limit).WithHint("choose from 1 to %d", MaxTokenLimit)
	case n.Limit > 1 && n.Address.IsValid():
		return provisioning.Errorf(provisioning.Invalid, "%d boxes cannot have the one address %v", n.Limit, n.Address).
			WithHint("make a token for each, or let the coordinator choose the addresses")
	case n.Replaces != "":
		return n.checkReplacement()
	}
	if n.Kind == "" {
		n.Kind = wire.Gateway
	}
	switch n.Kind {
	case wire.Gateway, wire.Relay, wire.Workstation:
		return nil
	case wire.Unmanaged:
		return provisioning.Errorf(provisioning.Invalid, "a plain WireGuard device cannot redeem a token").
			WithHint("make its file: \"towpath peer add NAME --site SITE\"")
	}
	return provisioning.Errorf(provisioning.Invalid, "there is no kind of box %q", clean(string(n.Kind), maxShort)).
		WithHint("choose %q, %q or %q", wire.Gateway, wire.Relay, wire.Workstation)
}

// CreateToken makes a token. The wire.Token is the only copy of the secret. A token that replaces a Node ends older ones that do.
func (c *Coordinator) CreateToken(ctx context.Context, actor string, n NewToken) (TokenInfo, wire.Token, error) {
	if err := n.check(); err != nil {
		return TokenInfo{}, wire.Token{}, err
	}
	var stored TokenInfo
	var text wire.Token
	err := c.st.Update(ctx, func(tx store.Tx) error {
		at := c.stamp()
		t, site, err := c.tokenFor(tx, actor, n, at)
		if err != nil {
			return err
		}
		set, err := readSettings(tx)
		if err != nil {
			return err
		}
		text = wire.Token{
			ID: string(provisioning.NewTokenID()), Secret: wire.NewSecret(), Fingerprint: c.keys.Identity().Fingerprint(), URLs: set.URLs,
		}
		if err := text.Check(); err != nil {
			return provisioning.Errorf(provisioning.Invalid, "no token can be made: %s", err).WithHint("shorten the coordinator's addresses")
		}
		t.ID, t.Hash = provisioning.TokenID(text.ID), hashSecret(text.Secret[:])
		if err := tx.Tokens().Create(t); err != nil {
			return fmt.Errorf("store the token: %w", err)
		}
		stored = TokenInfo{SiteName: site.Name, State: TokenOpen, Token: t}
		return record(tx, at, actor, "token.create", text.ID, describeToken(t, site))
	})
	if err != nil {
		return TokenInfo{}, wire.Token{}, err
	}
	return stored, text, nil
}

// tokenFor decides everything about a token but its id and secret.
func (c *Coordinator) tokenFor(tx store.Tx, actor string, n NewToken, at time.Time) (provisioning.Token, provisioning.Site, error) {
	t := provisioning.Token{Kind: n.Kind, Limit: n.Limit, Approval: n.Approval, Address: n.Address, Created: at, Expires: at.Add(n.TTL)}
	if n.Replaces != "" {
		node, site, err := replaceable(tx, n.Replaces)
		if err != nil {
			return t, site, err
		}
		t.Site, t.Kind, t.Replaces = site.ID, node.Kind, node.ID
		return t, site, revokeReplacements(tx, actor, node.ID, at)
	}
	site, err := siteNamed(tx, n.Site)
	if err != nil {
		return t, site, err
	}
	t.Site = site.ID
	if !t.Address.IsValid() {
		return t, site, nil
	}
	ranges, err := tx.Ranges().Of(string(site.ID))
	if err != nil {
		return t, site, fmt.Errorf("read the plan: %w", err)
	}
	// Whether it is taken matters when the token is used: the box that has it now may be gone by then.
	return t, site, checkFixed(t.Address, site, ranges, purposeOf(t.Kind), nil)
}

func describeToken(t provisioning.Token, site provisioning.Site) string {
	d := fmt.Sprintf("%s of site %s, until %s", t.Kind, site.Name, t.Expires.Format(time.RFC3339))
	if t.Limit > 1 {
		d += fmt.Sprintf(", for %d", t.Limit)
	}
	if t.Approval {
		d += ", with approval"
	}
	if t.Replaces != "" {
		d += fmt.Sprintf(", replaces %s", t.Replaces)
	}
	return d
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

// RevokeToken withdraws a token that is not used up. Nodes that it has enrolled stay: one is removed by itself, and one that waits goes on
// waiting.
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
			last := t.Uses[len(t.Uses)-1]
			return provisioning.Errorf(provisioning.Conflict, "the token was used up on %s by node %s", last.At.Format(time.DateTime), last.Node).
				WithHint("remove that node if it shall not be in the network")
		default:
			if err := tx.Tokens().Revoke(id, at); err != nil {
				return fmt.Errorf("revoke the token: %w", err)
			}
			detail := ""
			if len(t.Uses) > 0 {
				detail = fmt.Sprintf("used %d of %d times", len(t.Uses), t.Limit)
			}
			return record(tx, at, actor, "token.revoke", string(id), detail)
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
