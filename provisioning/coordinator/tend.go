package coordinator

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/netmap"
	"github.com/towpath/towpath/provisioning/store"
)

// EndRenumbering ends the old addresses of a Site now.
func (c *Coordinator) EndRenumbering(ctx context.Context, actor, site string) (Renumbering, error) {
	var out Renumbering
	err := c.changePlan(ctx, actor, "site.renumbered", func(tx *planTx) (string, string, error) {
		s, err := siteNamed(tx, site)
		if err != nil {
			return "", "", err
		}
		ranges, err := tx.Ranges().Of(string(s.ID))
		if err != nil {
			return "", "", fmt.Errorf("read the ranges of the site: %w", err)
		}
		olds := slices.DeleteFunc(ranges, func(r provisioning.Range) bool { return !r.Ending() })
		if len(olds) == 0 {
			return "", "", provisioning.Errorf(provisioning.Conflict, "site %s is not being renumbered", s.Name).
				WithHint("\"towpath plan renumber %s\" begins it", s.Name)
		}
		out, err = tx.endOld(s.Name, olds)
		return s.Name, fmt.Sprintf("from %s to %v", joinPrefixes(out.Old), out.New), err
	})
	return out, err
}

// Tend does what time demands: it ends renumberings that are over, frees what was in quarantine and takes away old messages of boxes. It is called at start and about every
// minute.
func (c *Coordinator) Tend(ctx context.Context) error {
	return c.st.Update(ctx, func(inner store.Tx) error {
		tx, err := planIn(inner, c.stamp(), timeActor)
		if err != nil {
			return err
		}
		if err := tx.sweep(); err != nil {
			return err
		}
		if err := tx.PairMail().RemoveBefore(tx.at.Add(-pairMailLifetime)); err != nil {
			return err
		}
		ended, err := tx.Ranges().Ended(tx.at)
		if err != nil || len(ended) == 0 {
			return err
		}
		olds := map[string][]provisioning.Range{}
		var owners []string
		for _, r := range ended {
			if !slices.Contains(owners, r.Owner) {
				owners = append(owners, r.Owner)
			}
			olds[r.Owner] = append(olds[r.Owner], r)
		}
		for _, o := range owners {
			name := ownerName(tx, o)
			moved, err := tx.endOld(name, olds[o])
			if err != nil {
				return err
			}
			detail := fmt.Sprintf("from %s to %v", joinPrefixes(moved.Old), moved.New)
			if err := record(tx, tx.at, timeActor, "site.renumbered", name, detail); err != nil {
				return err
			}
		}
		if _, err := tx.Bump(); err != nil {
			return fmt.Errorf("raise the generation: %w", err)
		}
		return nil
	})
}

// endOld quarantines the old ranges of one owner, and takes the addresses in them from its Nodes.
func (tx *planTx) endOld(name string, olds []provisioning.Range) (Renumbering, error) {
	out := Renumbering{Site: name, Until: tx.at, Done: true}
	for _, o := range olds {
		out.Old = append(out.Old, o.Prefix)
	}
	s, err := snapshot(tx)
	if err != nil {
		return out, fmt.Errorf("read the network: %w", err)
	}
	after := netmap.NewIndex(s)
	s.Nodes = slices.Clone(s.Nodes)
	for i, n := range s.Nodes {
		if string(n.Site) != olds[0].Owner || !isIn(out.Old, n.Former) {
			continue
		}
		if err := tx.Nodes().Readdress(n.ID, n.Address, netip.Addr{}); err != nil {
			return out, fmt.Errorf("take the address %s from node %s: %w", n.Former, n.ID, err)
		}
		out.Nodes = append(out.Nodes, MovedNode{Node: n.ID, Hostname: n.Facts.Hostname, Old: n.Former, New: n.Address})
		s.Nodes[i].Address, s.Nodes[i].Former = n.Former, netip.Addr{}
	}
	out.Services = movedServices(s, provisioning.SiteID(olds[0].Owner), netmap.NewIndex(s), after)
	for _, r := range s.Ranges {
		holds := slices.ContainsFunc(out.Nodes, func(n MovedNode) bool { return r.Prefix.Contains(n.New) })
		if r.Owner == olds[0].Owner && gives(r, provisioning.PurposeOverlay) && (holds || !out.New.IsValid()) {
			out.New = r.Prefix
		}
	}
	for _, o := range olds {
		if _, err := tx.release(o, false); err != nil {
			return out, err
		}
	}
	return out, nil
}

func isIn(list []netip.Prefix, a netip.Addr) bool {
	return a.IsValid() && slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) })
}
