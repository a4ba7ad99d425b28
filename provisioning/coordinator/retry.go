package coordinator

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// fetchGrace is how long a box that had to wait may fetch its first map after it was approved, whatever has become of its token meanwhile:
// nobody drives to a clinic again because an operator was slow.
const fetchGrace = 72 * time.Hour

const hintNewToken = "ask the center for a new token"

// askedAgain finds the Node of a box that has used the token before; known is false for a box that comes for the first time.
//
// Who waits may ask for as long as it does. Otherwise the token must be good, or the box have been approved not long ago.
func askedAgain(tx store.Tx, t provisioning.Token, key wgkey.PublicKey, now time.Time) (a admission, known bool, err error) {
	for _, u := range t.Uses {
		if u.Key != key && !u.Key.IsZero() {
			continue
		}
		n, err := tx.Nodes().ByID(u.Node)
		switch {
		case err != nil && !errors.Is(err, store.ErrNotFound):
			return admission{}, false, fmt.Errorf("read the node: %w", err)
		case err == nil && n.PublicKey == key:
			if err := mayFetch(t, n, now); err != nil {
				return admission{}, false, err
			}
			gen, err := tx.Generation()
			if err != nil {
				return admission{}, false, fmt.Errorf("read the generation: %w", err)
			}
			return admission{node: n, siteName: ownerName(tx, string(n.Site)), gen: gen}, true, nil
		case u.Key.IsZero():
			continue // of a time when keys were not noted: it may be another box's
		case err == nil:
			return admission{}, false, provisioning.Errorf(provisioning.Denied,
				"this token was used on %s by this box, whose place another box has taken since", u.At.Format(time.DateTime)).WithHint(hintNewToken)
		}
		return admission{}, false, provisioning.Errorf(provisioning.Denied,
			"this token was used on %s by this box, which the center has rejected or removed since", u.At.Format(time.DateTime)).
			WithHint("ask the center why; it comes in again only with a new token")
	}
	return admission{}, false, nil
}

// mayFetch says why the Node n does not get its map once more.
func mayFetch(t provisioning.Token, n provisioning.Node, now time.Time) error {
	switch {
	case n.State == provisioning.NodeQuarantined:
		return provisioning.Errorf(provisioning.Denied, "node %s, which is this box, was quarantined: %s", n.ID, n.Reason).
			WithHint("ask the center")
	case n.State == provisioning.NodeWaiting, n.Since.After(n.Enrolled) && now.Before(n.Since.Add(fetchGrace)):
		return nil
	}
	return tokenIsTimely(t, now)
}

// tokenIsTimely refuses a token that was withdrawn or is too old.
func tokenIsTimely(t provisioning.Token, now time.Time) error {
	if !t.Revoked.IsZero() {
		return provisioning.Errorf(provisioning.Denied, "this token was withdrawn on %s", t.Revoked.Format(time.DateTime)).WithHint(hintNewToken)
	}
	if !now.Before(t.Expires) {
		return provisioning.Errorf(provisioning.Expired, "this token was good until %s", t.Expires.Format(time.DateTime)).WithHint(hintNewToken)
	}
	return nil
}

// tokenIsGood names what is wrong with a token whose secret was right, for a box that comes for the first time.
func tokenIsGood(t provisioning.Token, now time.Time) error {
	if err := tokenIsTimely(t, now); err != nil {
		return err
	}
	if len(t.Uses) < t.Limit {
		return nil
	}
	last := t.Uses[len(t.Uses)-1].At.Format(time.DateTime)
	if t.Limit > 1 {
		return provisioning.Errorf(provisioning.Denied, "this token was for %d boxes and is used up since %s", t.Limit, last).WithHint(hintNewToken)
	}
	return provisioning.Errorf(provisioning.Denied, "this token was used on %s by another box", last).
		WithHint("each box needs its own token: " + hintNewToken + "; if nobody of you has used it, tell them so")
}

// Bounds of wire.Wait.After, in seconds. In between it is a twentieth of the time that the box has waited: quick while somebody is on the
// phone, and next to nothing for a box that waits over the weekend.
const (
	waitLeast = 5
	waitMost  = 300
)

// wait asks the box to come again.
func (a admission) wait(now time.Time) *wire.Wait {
	after := int(now.Sub(a.node.Since) / (20 * time.Second))
	return &wire.Wait{
		After:   min(max(after, waitLeast), waitMost),
		Message: fmt.Sprintf("the center knows this box as one of site %s now, and it is %s", a.siteName, a.node.Reason),
	}
}

// addrOf reads the address of a connection's remote end, as "host:port" or only "host"; the zero value if it cannot be read.
func addrOf(remote string) netip.Addr {
	addr, err := netip.ParseAddr(remote)
	if err != nil {
		ap, err := netip.ParseAddrPort(remote)
		if err != nil {
			return netip.Addr{}
		}
		addr = ap.Addr()
	}
	return addr.Unmap().WithZone("")
}
