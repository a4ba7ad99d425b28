package coordinator

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"

	"github.com/towpath/towpath/ipam"
	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
)

// NewMapping describes a Mapping to be made.
type NewMapping struct {
	// Site is the name or id.
	Site string
	// LAN is the part of the Site's LAN that shall have addresses of its own.
	LAN netip.Prefix
	// To asks for a certain range; the zero Prefix lets the coordinator choose one in Pool.
	To netip.Prefix
	// Pool is a prefix, label or number; empty for any pool.
	Pool string
	Note string
}

// Map makes a Mapping: a range of the plan, as large as a part of a Site's LAN, stands for it from now on. The Services whose targets are
// in it get the addresses that their machines have there; nothing else becomes reachable.
func (c *Coordinator) Map(ctx context.Context, actor string, n NewMapping) (RangeInfo, error) {
	if err := checkPrefix(n.LAN); err != nil {
		return RangeInfo{}, err
	}
	if n.To.IsValid() {
		if _, err := ipam.NewMapping(n.LAN, n.To); err != nil {
			return RangeInfo{}, provisioning.Errorf(provisioning.Invalid, "%s", err).
				WithHint("give a range of the plan as large as the LAN, or none and let the coordinator choose")
		}
	}
	var out RangeInfo
	err := c.changePlan(ctx, actor, "mapping.create", func(tx *planTx) (string, string, error) {
		site, err := siteNamed(tx, n.Site)
		if err != nil {
			return "", "", err
		}
		if err := canMap(tx, site, n.LAN); err != nil {
			return "", "", err
		}
		r := provisioning.Range{
			Kind: provisioning.RangeAllocation, Purpose: provisioning.PurposeMapped, Prefix: n.To, Maps: n.LAN, Owner: string(site.ID),
			Note: clean(n.Note, maxLong), Created: tx.at,
		}
		if out, err = tx.allocate(r, n.Pool, Size{Bits: n.LAN.Bits()}); err != nil {
			return "", "", err
		}
		return site.Name, ipam.Mapping{LAN: n.LAN, Mapped: out.Prefix}.String(), nil
	})
	return out, err
}

// canMap refuses a LAN that the Site does not have, has mapped already, or that is in the plan itself.
func canMap(tx store.Tx, site provisioning.Site, lan netip.Prefix) error {
	pool, err := meetsPool(tx, lan)
	if err != nil {
		return err
	}
	if pool.IsValid() {
		return provisioning.Errorf(provisioning.Invalid, "%v overlaps %v of the plan itself", lan, pool).
			WithHint("a mapping is for the addresses that the machines at the site really have")
	}
	ranges, err := tx.Ranges().Of(string(site.ID))
	if err != nil {
		return fmt.Errorf("read the site's ranges: %w", err)
	}
	var lans []netip.Prefix
	for _, r := range ranges {
		switch {
		case r.Kind == provisioning.RangeLAN, r.Kind == provisioning.RangeReported && r.Purpose == provisioning.PurposeLAN:
			lans = append(lans, r.Prefix)
		case r.Maps.IsValid() && r.Maps.Overlaps(lan):
			return provisioning.Errorf(provisioning.Conflict, "site %s has a mapping of %v already: %s", site.Name, r.Maps,
				ipam.Mapping{LAN: r.Maps, Mapped: r.Prefix}).
				WithHint("use that, or end it first: \"towpath plan unmap %s %v\"", site.Name, r.Maps)
		}
	}
	if len(lans) > 0 && !covers(lans, lan) {
		return provisioning.Errorf(provisioning.Conflict, "%v is no part of a LAN of site %s, which has %s", lan, site.Name, joinPrefixes(lans)).
			WithHint("map a part of these, or, if that network is routed there: \"towpath plan lan %s %v\"", site.Name, lan)
	}
	return nil
}

// Unmap ends a Mapping, named by its LAN prefix, its mapped prefix, or its number. Its range is quarantined.
func (c *Coordinator) Unmap(ctx context.Context, actor, site, ref string) (RangeInfo, error) {
	var out RangeInfo
	err := c.changePlan(ctx, actor, "mapping.remove", func(tx *planTx) (string, string, error) {
		s, err := siteNamed(tx, site)
		if err != nil {
			return "", "", err
		}
		ranges, err := tx.Ranges().Of(string(s.ID))
		if err != nil {
			return "", "", fmt.Errorf("read the site's ranges: %w", err)
		}
		for _, r := range ranges {
			if !r.Maps.IsValid() || ref != r.Maps.String() && ref != r.Prefix.String() && ref != strconv.FormatInt(r.ID, 10) {
				continue
			}
			m := ipam.Mapping{LAN: r.Maps, Mapped: r.Prefix}
			out, err = tx.release(r, false)
			return s.Name, m.String(), err
		}
		return "", "", provisioning.Errorf(provisioning.NotFound, "site %s has no mapping %q", s.Name, clean(ref, maxShort)).
			WithHint("\"towpath plan show %s\" lists its mappings; name one by either prefix", s.Name)
	})
	return out, err
}
