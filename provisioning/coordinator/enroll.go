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
	"github.com/towpath/towpath/tunnel/wgkey"
)

// maxSkew is how far a box's clock may be off before the audit trail says so.
const maxSkew = 5 * time.Minute

// OpenEnroll opens a sealed request. The sealer is nil if nothing can be sealed back.
func (c *Coordinator) OpenEnroll(body []byte) (wire.EnrollRequest, *wire.ResponseSealer, error) {
	return wire.OpenRequest(c.keys.enroll, body)
}

// Enroll makes a Node of the box that holds a token's secret, and answers with its first map, or asks it to wait for an operator. remote
// is where the request came from, as "host:port"; failures are counted by it.
//
// A box may ask again, because it lost the answer or because it waits: the same token and the same key give the same Node as long as the
// token is good, and while the Node waits and for some time after it was approved, see askedAgain.
func (c *Coordinator) Enroll(ctx context.Context, req wire.EnrollRequest, remote string) wire.EnrollResponse {
	from := remoteOf(remote)
	answer, err := c.enrollFrom(ctx, req, from, addrOf(remote))
	answer.Now = c.stamp()
	if err == nil {
		return answer
	}
	if refusal, ok := errors.AsType[*provisioning.Error](err); ok {
		c.log.Info("enrolment refused", "remote", from, "code", refusal.Code, "reason", refusal.Message)
	} else {
		c.log.Error("enrolment failed", "remote", from, "error", err)
	}
	return wire.EnrollResponse{Error: refusalOf(err), Now: answer.Now}
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

func (c *Coordinator) enrollFrom(ctx context.Context, req wire.EnrollRequest, from netip.Prefix, origin netip.Addr) (wire.EnrollResponse, error) {
	if wait := c.failures.wait(from, time.Now()); wait > 0 {
		return wire.EnrollResponse{}, provisioning.Errorf(provisioning.Unavailable, "too many failed enrolments from this address").
			WithHint("try again in %s", wait.Round(time.Second)+time.Second)
	}
	if req.Format > wire.Format {
		return wire.EnrollResponse{}, provisioning.Errorf(provisioning.Invalid,
			"the box speaks format %d and this coordinator up to %d", req.Format, wire.Format).WithHint("update the coordinator")
	}
	token, err := c.checkSecret(ctx, req)
	if err != nil {
		if _, ok := errors.AsType[*provisioning.Error](err); ok {
			c.failures.fail(from, time.Now())
		}
		return wire.EnrollResponse{}, err
	}
	if err := kindFits(token, req); err != nil {
		return wire.EnrollResponse{}, err
	}
	req.Facts = cleanFacts(req.Facts)
	a, err := c.admit(ctx, token.ID, req, origin)
	if err != nil {
		return wire.EnrollResponse{}, err
	}
	if a.displaced {
		c.displace(a.node.ID)
	}
	if a.node.State == provisioning.NodeWaiting {
		return wire.EnrollResponse{Wait: a.wait(c.stamp())}, nil
	}
	c.awaitHub(ctx, a.gen)
	signed, _, err := c.NetMapFor(ctx, a.node.ID)
	return wire.EnrollResponse{NetMap: &signed}, err
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

// kindFits refuses a token of another kind than the box, before it is used up. A box of an earlier version does not say what it is.
func kindFits(t provisioning.Token, req wire.EnrollRequest) error {
	if req.Kind == "" || req.Kind == t.Kind {
		return nil
	}
	hint := "\"towpath enroll\""
	if t.Kind == wire.Workstation {
		hint = "\"towpath up\""
	}
	return provisioning.Errorf(provisioning.Invalid, "this token is a %s's, and not a %s's", t.Kind, clean(string(req.Kind), maxShort)).
		WithHint("the token is not used up: it is for %s; ask the center for one of the right kind", hint)
}

// admission is what became of a request.
type admission struct {
	node     provisioning.Node
	siteName string
	// gen is a generation that has the Node.
	gen uint64
	// displaced means that another box was the Node until now.
	displaced bool
}

// admit decides, and makes the Node, in one transaction; or only reads, for a box that asks again.
func (c *Coordinator) admit(ctx context.Context, id provisioning.TokenID, req wire.EnrollRequest, origin netip.Addr) (admission, error) {
	if req.PublicKey.IsZero() || req.PublicKey == c.keys.HubPublicKey() {
		return admission{}, provisioning.Errorf(provisioning.Invalid, "the box has sent no key of its own").WithHint("update the box")
	}
	var a admission
	known := false
	look := func(tx store.Tx, at time.Time) (provisioning.Token, error) {
		token, err := tx.Tokens().ByID(id)
		if err != nil {
			return token, fmt.Errorf("read the token: %w", err)
		}
		a, known, err = askedAgain(tx, token, req.PublicKey, at)
		return token, err
	}
	// A waiting box asks every few seconds, which must not keep writers off.
	err := c.st.View(ctx, func(tx store.Tx) error {
		_, err := look(tx, c.stamp())
		return err
	})
	if err != nil || known {
		return a, err
	}
	err = c.st.Update(ctx, func(tx store.Tx) error {
		p, err := planIn(tx, c.stamp(), "token "+string(id))
		if err != nil {
			return err
		}
		token, err := look(p, p.at)
		if err != nil || known {
			return err
		}
		if err := tokenIsGood(token, p.at); err != nil {
			return err
		}
		a, err = c.enter(p, token, req, origin)
		return err
	})
	return a, c.explain(ctx, err)
}

// enter makes the Node of a box that comes for the first time.
func (c *Coordinator) enter(tx *planTx, t provisioning.Token, req wire.EnrollRequest, origin netip.Addr) (admission, error) {
	n := provisioning.Node{
		ID: provisioning.NewNodeID(), Site: t.Site, Kind: t.Kind, PublicKey: req.PublicKey, Origin: origin, Facts: req.Facts, Enrolled: tx.at, Since: tx.at,
	}
	n.State, n.Reason = c.firstState(t.Approval)
	var err error
	if t.Replaces != "" {
		n, err = tx.takeOver(t, req, n)
	} else {
		n, err = tx.makeNode(t, req, n)
	}
	if err != nil {
		return admission{}, err
	}
	if err := tx.Tokens().Use(t.ID, provisioning.TokenUse{Node: n.ID, At: tx.at, Key: req.PublicKey}); err != nil {
		return admission{}, fmt.Errorf("use up the token: %w", err)
	}
	if err := syncReported(tx, n.Site, tx.at); err != nil {
		return admission{}, err
	}
	a := admission{node: n, siteName: ownerName(tx, string(n.Site)), displaced: t.Replaces != ""}
	if a.gen, err = tx.Bump(); err != nil {
		return admission{}, fmt.Errorf("raise the generation: %w", err)
	}
	return a, nil
}

// makeNode stores a Node that was not there before, if it fits the plan, with an address.
func (tx *planTx) makeNode(t provisioning.Token, req wire.EnrollRequest, n provisioning.Node) (provisioning.Node, error) {
	site, err := tx.Sites().ByID(t.Site)
	if err != nil {
		return n, fmt.Errorf("read the token's site: %w", err)
	}
	if err := fitsPlan(tx, req.Facts); err != nil {
		return n, err
	}
	if err := roomFor(tx, site, t); err != nil {
		return n, err
	}
	if n.Address, err = tx.addressFor(site, t.Kind, t.Address); err != nil {
		return n, err
	}
	if err := tx.Nodes().Create(n); errors.Is(err, store.ErrExists) {
		return n, keyIsTaken(tx, n.PublicKey)
	} else if err != nil {
		return n, fmt.Errorf("store the node: %w", err)
	}
	detail := fmt.Sprintf("%s %s at site %s, key %s", n.Kind, n.Address, site.Name, n.PublicKey) + clockDetail(req, tx.at)
	if n.State == provisioning.NodeWaiting {
		detail += ", " + n.Reason
	}
	return n, record(tx, tx.at, tx.actor, "node.enroll", string(n.ID), detail)
}

// clockDetail says what the audit trail should of a box's clock.
func clockDetail(req wire.EnrollRequest, at time.Time) string {
	if skew := req.Now.Sub(at); skew.Abs() > maxSkew {
		return fmt.Sprintf(", its clock is off by %s", skew.Round(time.Second))
	}
	return ""
}

// maxGateways is how many gateways a center may have: clinics keep sessions to all.
const maxGateways = 8

// roomFor refuses a second gateway at a clinic, where what the Site offers is at one of its Nodes. A center may have further ones, each of which
// somebody has to approve: a box that was set up anew by mistake looks like one.
func roomFor(tx store.Tx, site provisioning.Site, t provisioning.Token) error {
	if t.Kind != wire.Gateway {
		return nil
	}
	nodes, err := tx.Nodes().List()
	if err != nil {
		return fmt.Errorf("read the nodes: %w", err)
	}
	gateways := 0
	for _, n := range nodes {
		if n.Site != site.ID || n.Kind != t.Kind {
			continue
		}
		if n.State == provisioning.NodeWaiting {
			return provisioning.Errorf(provisioning.Conflict, "another box is there for site %s already, %s, and %s", site.Name, n.ID, n.Reason).
				WithHint("if it is the wrong one, the center rejects it: \"towpath node reject %s\"", n.ID)
		}
		if gateways++; site.Kind == wire.Center && t.Approval && gateways < maxGateways {
			continue
		}
		hint := "if this box shall take its place, ask the center for the token of \"towpath node replace %s\""
		if site.Kind == wire.Center {
			hint += "; if it shall be a further gateway of the center, of at most 8, for one of \"towpath token new --site " + site.Name + " --approve\""
		}
		return provisioning.Errorf(provisioning.Conflict, "site %s has a %s already, %s", site.Name, n.Kind, n.ID).WithHint(hint, n.ID)
	}
	return nil
}

// keyIsTaken says whose the key is that a box came with.
func keyIsTaken(tx store.Tx, key wgkey.PublicKey) error {
	n, err := tx.Nodes().ByKey(key)
	if err == nil && n.State == provisioning.NodeWaiting {
		return provisioning.Errorf(provisioning.Conflict, "this box is known already as node %s, which is %s", n.ID, n.Reason).
			WithHint("enroll it with the token that it came with, or let the center reject that node first")
	}
	return provisioning.Errorf(provisioning.Conflict, "the key of this box belongs to a node already").
		WithHint("remove that node first, or let the box make a new key")
}
