package coordinator

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/wire"
)

// maxSkew is how far a box's clock may be off before the audit trail says so.
const maxSkew = 5 * time.Minute

// OpenEnroll opens a sealed request. The sealer is nil if nothing can be sealed back.
func (c *Coordinator) OpenEnroll(body []byte) (wire.EnrollRequest, *wire.ResponseSealer, error) {
	return wire.OpenRequest(c.keys.enroll, body)
}

// Enroll makes a Node of the box that holds a token's secret, and answers with its first map. remote is where the request came from, as
// "host:port"; failures are counted by it.
//
// A box that lost the answer may ask again: the same token and the same key give the same Node as long as the token is good.
func (c *Coordinator) Enroll(ctx context.Context, req wire.EnrollRequest, remote string) wire.EnrollResponse {
	from := remoteOf(remote)
	signed, err := c.enrollFrom(ctx, req, from)
	if err == nil {
		return wire.EnrollResponse{NetMap: &signed, Now: c.stamp()}
	}
	if refusal, ok := errors.AsType[*provisioning.Error](err); ok {
		c.log.Info("enrolment refused", "remote", from, "code", refusal.Code, "reason", refusal.Message)
	} else {
		c.log.Error("enrolment failed", "remote", from, "error", err)
	}
	return wire.EnrollResponse{Error: refusalOf(err), Now: c.stamp()}
}

// refusalOf shows a person what is theirs to know.
func refusalOf(err error) *wire.Refusal {
	if e, ok := errors.AsType[*provisioning.Error](err); ok {
		return &wire.Refusal{Code: string(e.Code), Message: e.Message, Hint: e.Hint}
	}
	return &wire.Refusal{
		Code:    string(provisioning.Unavailable),
		Message: "the coordinator has a problem of its own",
		Hint:    "try again in a minute; its log says what is wrong",
	}
}

func (c *Coordinator) enrollFrom(ctx context.Context, req wire.EnrollRequest, from netip.Prefix) (wire.Signed, error) {
	if wait := c.failures.wait(from, time.Now()); wait > 0 {
		return wire.Signed{}, provisioning.Errorf(provisioning.Unavailable, "too many failed enrolments from this address").
			WithHint("try again in %s", wait.Round(time.Second)+time.Second)
	}
	if req.Format > wire.Format {
		return wire.Signed{}, provisioning.Errorf(provisioning.Invalid,
			"the box speaks format %d and this coordinator up to %d", req.Format, wire.Format).WithHint("update the coordinator")
	}
	token, err := c.checkSecret(ctx, req)
	if err != nil {
		if _, ok := errors.AsType[*provisioning.Error](err); ok {
			c.failures.fail(from, time.Now())
		}
		return wire.Signed{}, err
	}
	req.Facts = cleanFacts(req.Facts)
	node, gen, err := c.admit(ctx, token.ID, req)
	if err != nil {
		return wire.Signed{}, err
	}
	c.awaitHub(ctx, gen)
	signed, _, err := c.NetMapFor(ctx, node)
	return signed, err
}

// errSecret is the same for an unknown token and a wrong secret, so that nobody can find out which ids exist.
var errSecret = provisioning.Errorf(provisioning.Denied, "this token is not known here").
	WithHint("copy the whole token again, or ask the center for a new one")

// checkSecret finds the token and compares the secret in a time that does not depend on it.
func (c *Coordinator) checkSecret(ctx context.Context, req wire.EnrollRequest) (provisioning.Token, error) {
	var token provisioning.Token
	err := c.st.View(ctx, func(tx store.Tx) error {
		var err error
		token, err = tx.Tokens().ByID(provisioning.TokenID(clean(req.TokenID, maxShort)))
		return err
	})
	unknown := errors.Is(err, store.ErrNotFound)
	if err != nil && !unknown {
		return provisioning.Token{}, fmt.Errorf("read the token: %w", err)
	}
	if unknown {
		token.Hash = sha256.Sum256([]byte("no token has this hash"))
	}
	got := hashSecret(req.Secret)
	if subtle.ConstantTimeCompare(got[:], token.Hash[:]) != 1 || unknown {
		return provisioning.Token{}, errSecret
	}
	return token, nil
}

// admit decides, and makes the Node, in one transaction. It returns the Node and a generation that has it.
func (c *Coordinator) admit(ctx context.Context, id provisioning.TokenID, req wire.EnrollRequest) (provisioning.NodeID, uint64, error) {
	if req.PublicKey.IsZero() || req.PublicKey == c.keys.HubPublicKey() {
		return "", 0, provisioning.Errorf(provisioning.Invalid, "the box has sent no key of its own").WithHint("update the box")
	}
	var node provisioning.NodeID
	var gen uint64
	err := c.st.Update(ctx, func(tx store.Tx) error {
		token, err := tx.Tokens().ByID(id)
		if err != nil {
			return fmt.Errorf("read the token: %w", err)
		}
		at := c.stamp()
		again, err := tokenIsGood(tx, token, req, at)
		if err != nil {
			return err
		}
		if again != "" {
			node = again
			gen, err = tx.Generation()
			return err
		}
		n, err := newNode(tx, token, req, at)
		if err != nil {
			return err
		}
		if err := tx.Nodes().Create(n); errors.Is(err, store.ErrExists) {
			return provisioning.Errorf(provisioning.Conflict, "the key of this box belongs to a node already").
				WithHint("remove that node first, or let the box make a new key")
		} else if err != nil {
			return fmt.Errorf("store the node: %w", err)
		}
		if err := tx.Tokens().Use(token.ID, n.ID, at); err != nil {
			return fmt.Errorf("use up the token: %w", err)
		}
		node = n.ID
		if err := syncReported(tx, n.Site, at); err != nil {
			return err
		}
		if gen, err = tx.Bump(); err != nil {
			return fmt.Errorf("raise the generation: %w", err)
		}
		return record(tx, at, "token "+string(token.ID), "node.enroll", string(n.ID), enrollDetail(tx, n, req, at))
	})
	return node, gen, err
}

func enrollDetail(tx store.Tx, n provisioning.Node, req wire.EnrollRequest, at time.Time) string {
	d := fmt.Sprintf("%s at site %s, key %s", n.Address, ownerName(tx, string(n.Site)), n.PublicKey)
	if skew := req.Now.Sub(at); skew.Abs() > maxSkew {
		d += fmt.Sprintf(", its clock is off by %s", skew.Round(time.Second))
	}
	return d
}

// tokenIsGood names what is wrong with a token whose secret was right. again is the Node of a box that asks once more.
func tokenIsGood(tx store.Tx, t provisioning.Token, req wire.EnrollRequest, now time.Time) (again provisioning.NodeID, err error) {
	const hint = "ask the center for a new token"
	if !t.Revoked.IsZero() {
		return "", provisioning.Errorf(provisioning.Denied, "this token was withdrawn on %s", t.Revoked.Format(time.DateTime)).WithHint(hint)
	}
	if !now.Before(t.Expires) {
		return "", provisioning.Errorf(provisioning.Expired, "this token was good until %s", t.Expires.Format(time.DateTime)).WithHint(hint)
	}
	for _, u := range t.Uses {
		n, err := tx.Nodes().ByID(u.Node)
		if err == nil && n.PublicKey == req.PublicKey {
			return n.ID, nil
		}
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return "", fmt.Errorf("read the node: %w", err)
		}
	}
	if len(t.Uses) < t.Limit {
		return "", nil
	}
	return "", provisioning.Errorf(provisioning.Denied, "this token was used on %s by another box", t.Uses[len(t.Uses)-1].At.Format(time.DateTime)).
		WithHint("each box needs its own token: " + hint + "; if nobody of you has used it, tell them so")
}

// newNode decides whether the box fits the plan, and gives it an address.
func newNode(tx store.Tx, t provisioning.Token, req wire.EnrollRequest, at time.Time) (provisioning.Node, error) {
	site, err := tx.Sites().ByID(t.Site)
	if err != nil {
		return provisioning.Node{}, fmt.Errorf("read the token's site: %w", err)
	}
	if err := fitsPlan(tx, req.Facts); err != nil {
		return provisioning.Node{}, err
	}
	taken, err := addressesOf(tx)
	if err != nil {
		return provisioning.Node{}, err
	}
	nodes, err := tx.Nodes().List()
	if err != nil {
		return provisioning.Node{}, fmt.Errorf("read the nodes: %w", err)
	}
	for _, n := range nodes {
		if n.Site == site.ID && n.Kind == t.Kind {
			return provisioning.Node{}, provisioning.Errorf(provisioning.Conflict, "site %s has a %s already, %s", site.Name, n.Kind, n.ID).
				WithHint("remove that node first if this box shall take its place")
		}
	}
	ranges, err := tx.Ranges().Of(string(site.ID))
	if err != nil {
		return provisioning.Node{}, fmt.Errorf("read the plan: %w", err)
	}
	addr := t.Address
	if addr.IsValid() {
		err = checkFixed(addr, site, ranges, provisioning.PurposeOverlay, taken)
	} else {
		addr, err = firstAddress(ranges, site, provisioning.PurposeOverlay, taken)
	}
	if err != nil {
		return provisioning.Node{}, err
	}
	return provisioning.Node{
		ID: provisioning.NewNodeID(), Site: site.ID, Kind: t.Kind, PublicKey: req.PublicKey,
		Address: addr, Facts: req.Facts, Enrolled: at,
	}, nil
}
