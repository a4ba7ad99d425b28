package coordinator

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/wire"
)

// NewSite describes a Site to be made.
type NewSite struct {
	Name  string
	Kind  wire.SiteKind
	Title string
	// Endpoint is host:port, see provisioning.Site; empty for a Site that only calls out.
	Endpoint string
	// Prefix is its allocation. The zero value lets the coordinator choose room for Hosts, 14 if that is zero, too, in Pool.
	Prefix netip.Prefix
	Hosts  int
	// Pool is a prefix, label or number. If it is empty, pools around others are tried before those in them, in the order of the plan.
	Pool string
	// LAN is the Site's real network if it is known before a box reports it; the zero Prefix if not.
	LAN netip.Prefix
}

// SiteInfo is a Site with what belongs to it.
type SiteInfo struct {
	provisioning.Site
	Prefixes []netip.Prefix
	// Nodes is how many are enrolled, Kinds how many of each kind there are among them.
	Nodes int
	Kinds map[wire.NodeKind]int
}

// maxHosts keeps one typing error from taking the plan.
const maxHosts = 65534

// CreateSite makes a Site and its allocation.
func (c *Coordinator) CreateSite(ctx context.Context, actor string, n NewSite) (SiteInfo, error) {
	site := provisioning.Site{
		ID: provisioning.NewSiteID(), Name: n.Name, Kind: n.Kind, Title: strings.TrimSpace(n.Title), Endpoint: n.Endpoint, Created: c.stamp(),
	}
	if err := site.Validate(); err != nil {
		return SiteInfo{}, err
	}
	if err := checkRoom(&n); err != nil {
		return SiteInfo{}, err
	}
	var info SiteInfo
	err := c.changePlan(ctx, actor, "site.create", func(tx *planTx) (string, string, error) {
		if err := tx.Sites().Create(site); errors.Is(err, store.ErrExists) {
			return "", "", provisioning.Errorf(provisioning.Conflict, "there is a site named %s already", n.Name).WithHint("choose another name")
		} else if err != nil {
			return "", "", fmt.Errorf("store the site: %w", err)
		}
		r, err := tx.allocate(provisioning.Range{
			Kind: provisioning.RangeAllocation, Purpose: provisioning.PurposeOverlay, Prefix: n.Prefix, Owner: string(site.ID),
		}, n.Pool, Size{Hosts: n.Hosts})
		if err != nil {
			return "", "", err
		}
		detail := fmt.Sprintf("%s with %v", site.Kind, r.Prefix)
		if n.LAN.IsValid() {
			lan := provisioning.Range{Kind: provisioning.RangeLAN, Prefix: n.LAN, Owner: string(site.ID), Created: tx.at}
			if _, err := tx.add(lan); err != nil {
				return "", "", err
			}
			detail += fmt.Sprintf(", LAN %v", n.LAN)
		}
		info = SiteInfo{Site: site, Prefixes: []netip.Prefix{r.Prefix}}
		return site.Name, detail, nil
	})
	return info, err
}

// checkRoom checks what a Site asks of the plan, and fills in what it need not say.
func checkRoom(n *NewSite) error {
	if n.LAN != (netip.Prefix{}) {
		if err := checkLAN(n.LAN); err != nil {
			return err
		}
	}
	if n.Prefix == (netip.Prefix{}) && n.Hosts == 0 {
		n.Hosts = defaultHosts
	}
	return checkPlace(n.Prefix, Size{Hosts: n.Hosts}, n.Pool)
}

// Sites returns all by name.
func (c *Coordinator) Sites(ctx context.Context) ([]SiteInfo, error) {
	var infos []SiteInfo
	err := c.st.View(ctx, func(tx store.Tx) error {
		sites, err := tx.Sites().List()
		if err != nil {
			return err
		}
		ranges, err := tx.Ranges().List()
		if err != nil {
			return err
		}
		nodes, err := tx.Nodes().List()
		if err != nil {
			return err
		}
		prefixes := map[string][]netip.Prefix{}
		for _, r := range ranges {
			if r.Kind == provisioning.RangeAllocation && r.Until.IsZero() {
				prefixes[r.Owner] = append(prefixes[r.Owner], r.Prefix)
			}
		}
		count, kinds := map[provisioning.SiteID]int{}, map[provisioning.SiteID]map[wire.NodeKind]int{}
		for _, n := range nodes {
			if kinds[n.Site] == nil {
				kinds[n.Site] = map[wire.NodeKind]int{}
			}
			count[n.Site]++
			kinds[n.Site][n.Kind]++
		}
		infos = make([]SiteInfo, 0, len(sites))
		for _, s := range sites {
			infos = append(infos, SiteInfo{Site: s, Prefixes: prefixes[string(s.ID)], Nodes: count[s.ID], Kinds: kinds[s.ID]})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the sites: %w", err)
	}
	return infos, nil
}

// SetSiteEndpoint changes where a Site's gateway is reached from outside; empty makes it a Site that only calls out.
func (c *Coordinator) SetSiteEndpoint(ctx context.Context, actor, site, endpoint string) error {
	if endpoint != "" {
		if err := provisioning.CheckEndpoint(endpoint); err != nil {
			return err
		}
	}
	return c.change(ctx, actor, "site.endpoint", func(tx store.Tx) (string, string, error) {
		s, err := siteNamed(tx, site)
		if err != nil {
			return "", "", err
		}
		detail := fmt.Sprintf("from %q to %q", s.Endpoint, endpoint)
		s.Endpoint = endpoint
		return s.Name, detail, tx.Sites().Update(s)
	})
}

// RemoveSite removes a Site on which nothing depends any more. Its addresses are quarantined, and its networks leave the plan.
func (c *Coordinator) RemoveSite(ctx context.Context, actor, site string) error {
	return c.changePlan(ctx, actor, "site.remove", func(tx *planTx) (string, string, error) {
		s, err := siteNamed(tx, site)
		if err != nil {
			return "", "", err
		}
		if err := siteIsUnused(tx, s); err != nil {
			return "", "", err
		}
		ranges, err := tx.Ranges().Of(string(s.ID))
		if err != nil {
			return "", "", fmt.Errorf("read the ranges of the site: %w", err)
		}
		for _, r := range ranges {
			if isTaken(r) {
				_, err = tx.release(r, false)
			} else {
				err = tx.remove(r)
			}
			if err != nil {
				return "", "", err
			}
		}
		if err := tx.Tokens().RemoveOf(s.ID); err != nil {
			return "", "", fmt.Errorf("remove the site's tokens: %w", err)
		}
		if err := tx.Sites().Remove(s.ID); err != nil {
			return "", "", fmt.Errorf("remove the site: %w", err)
		}
		return s.Name, string(s.ID), nil
	})
}

// nodeNoun names a Node for a message.
func nodeNoun(n provisioning.Node) string {
	switch n.Kind {
	case wire.Unmanaged:
		return "device " + n.Name
	case wire.Workstation:
		return "workstation " + string(n.ID)
	default:
		return "node " + string(n.ID)
	}
}

// siteIsUnused refuses with the names of everything that still refers to a Site.
func siteIsUnused(tx store.Tx, s provisioning.Site) error {
	nodes, err := tx.Nodes().List()
	if err != nil {
		return fmt.Errorf("read the nodes: %w", err)
	}
	services, err := tx.Services().List()
	if err != nil {
		return fmt.Errorf("read the services: %w", err)
	}
	grants, err := tx.Grants().List()
	if err != nil {
		return fmt.Errorf("read the grants: %w", err)
	}
	var uses []string
	for _, n := range nodes {
		if n.Site == s.ID {
			uses = append(uses, nodeNoun(n))
		}
	}
	names := map[provisioning.ServiceID]string{}
	for _, v := range services {
		names[v.ID] = v.Name
		if v.Site == s.ID {
			uses = append(uses, "service "+v.Name)
		}
	}
	for _, g := range grants {
		if g.Site == s.ID {
			uses = append(uses, "its grant of "+names[g.Service])
		}
	}
	if len(uses) == 0 {
		return nil
	}
	return provisioning.Errorf(provisioning.Conflict, "site %s still has %s", s.Name, strings.Join(uses[:min(len(uses), 8)], ", ")).
		WithHint("remove these first, so that nobody loses a service by surprise")
}
