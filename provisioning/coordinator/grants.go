package coordinator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/netmap"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/wire"
)

// GrantInfo is a Grant with the names of both ends.
type GrantInfo struct {
	provisioning.Grant
	ServiceName string
	// OwnerName is the Site that offers the Service, SiteName the one that may use it.
	OwnerName, SiteName string
}

// Allow grants a Service to a Site. A lanPort of 0 is the usual one of the protocol: 11112 or 2575. To the Site that offers it, the grant
// serves workstations and unmanaged Nodes alone: machines on the LAN reach it without the network.
func (c *Coordinator) Allow(ctx context.Context, actor, service, site string, lanPort uint16) (GrantInfo, error) {
	var info GrantInfo
	err := c.change(ctx, actor, "grant.allow", func(tx store.Tx) (string, string, error) {
		v, err := serviceNamed(tx, service)
		if err != nil {
			return "", "", err
		}
		user, err := siteNamed(tx, site)
		if err != nil {
			return "", "", err
		}
		owner, err := tx.Sites().ByID(v.Site)
		if err != nil {
			return "", "", fmt.Errorf("read the service's site: %w", err)
		}
		port := lanPort
		if port == 0 {
			port = defaultPort(v.Protocol)
		}
		if err := mayUse(owner, user); err != nil {
			return "", "", err
		}
		if isTLSPort(user, port) {
			return "", "", provisioning.Errorf(provisioning.Conflict, "at site %s, port %d is for TLS", user.Name, port).
				WithHint("choose another port for cleartext")
		}
		if err := doorIsFree(tx, v, user, port); err != nil {
			return "", "", err
		}
		g := provisioning.Grant{Service: v.ID, Site: user.ID, LANPort: port, Created: c.stamp()}
		if err := tx.Grants().Create(g); errors.Is(err, store.ErrExists) {
			return "", "", alreadyGranted(v, user)
		} else if err != nil {
			return "", "", fmt.Errorf("store the grant: %w", err)
		}
		info = GrantInfo{Grant: g, ServiceName: v.Name, OwnerName: owner.Name, SiteName: user.Name}
		return v.Name, fmt.Sprintf("to %s at port %d", user.Name, port), nil
	})
	return info, err
}

func alreadyGranted(v provisioning.Service, user provisioning.Site) error {
	return provisioning.Errorf(provisioning.Conflict, "site %s may use %s already", user.Name, v.Name).
		WithHint("to change the port, take the grant away and give it again")
}

// mayUse holds the rules of who may meet whom.
func mayUse(owner, user provisioning.Site) error {
	if owner.ID != user.ID && owner.Kind == wire.Clinic && user.Kind == wire.Clinic {
		return provisioning.Errorf(provisioning.Denied, "%s and %s are both clinics, and two clinics never meet", owner.Name, user.Name).
			WithHint("let the clinic use a service at a center; if %s is a center, it was created with the wrong kind", owner.Name)
	}
	return nil
}

// doorIsFree refuses a grant that a sender on the Site's LAN could not tell from another.
func doorIsFree(tx store.Tx, v provisioning.Service, user provisioning.Site, port uint16) error {
	grants, err := tx.Grants().Of(user.ID)
	if err != nil {
		return fmt.Errorf("read the grants: %w", err)
	}
	if slices.ContainsFunc(grants, func(g provisioning.Grant) bool { return g.Service == v.ID }) {
		return alreadyGranted(v, user)
	}
	return tellsApart(tx, v, user, port, grants)
}

// tellsApart refuses a Service at a door where a sender could not tell it from another one of the grants.
func tellsApart(tx store.Tx, v provisioning.Service, user provisioning.Site, port uint16, grants []provisioning.Grant) error {
	door := netmap.NewDoor(v, port)
	for _, g := range grants {
		if g.Service == v.ID {
			continue
		}
		other, err := tx.Services().ByID(g.Service)
		if err != nil {
			return fmt.Errorf("read a service: %w", err)
		}
		if !door.Collides(netmap.NewDoor(other, g.LANPort)) {
			continue
		}
		what := fmt.Sprintf("AE title %s", v.AETitle)
		switch {
		case v.Protocol != other.Protocol:
			what = fmt.Sprintf("%s beside %s", v.Protocol, other.Protocol)
		case v.Protocol == wire.HL7 && (v.Receiver == "" || other.Receiver == ""):
			what = "HL7 without a receiver, which takes every message" + ofTypes(v)
		case v.Protocol == wire.HL7:
			what = fmt.Sprintf("receiver %s", v.Receiver) + ofTypes(v)
		}
		return provisioning.Errorf(provisioning.Conflict, "at site %s, port %d is taken by %s and could not tell the two apart (%s)",
			user.Name, port, other.Name, what).WithHint("choose another port for the grant")
	}
	return nil
}

// ofTypes names the message types that a Service is limited to.
func ofTypes(v provisioning.Service) string {
	if v.HL7.Types == "" {
		return ""
	}
	return " of type " + strings.Join(v.HL7.TypeList(), ", ")
}

// Disallow takes a grant away.
func (c *Coordinator) Disallow(ctx context.Context, actor, service, site string) error {
	return c.change(ctx, actor, "grant.disallow", func(tx store.Tx) (string, string, error) {
		v, err := serviceNamed(tx, service)
		if err != nil {
			return "", "", err
		}
		user, err := siteNamed(tx, site)
		if err != nil {
			return "", "", err
		}
		switch err := tx.Grants().Remove(v.ID, user.ID); {
		case errors.Is(err, store.ErrNotFound):
			return "", "", provisioning.Errorf(provisioning.NotFound, "site %s was not allowed to use %s", user.Name, v.Name).
				WithHint("the list of grants shows who may use what")
		case err != nil:
			return "", "", fmt.Errorf("remove the grant: %w", err)
		}
		return v.Name, "from " + user.Name, nil
	})
}

// Grants returns all, by name of service and site.
func (c *Coordinator) Grants(ctx context.Context) ([]GrantInfo, error) {
	var infos []GrantInfo
	err := c.st.View(ctx, func(tx store.Tx) error {
		grants, err := tx.Grants().List()
		if err != nil {
			return err
		}
		services, err := tx.Services().List()
		if err != nil {
			return err
		}
		names, err := siteNames(tx)
		if err != nil {
			return err
		}
		byID := map[provisioning.ServiceID]provisioning.Service{}
		for _, v := range services {
			byID[v.ID] = v
		}
		infos = make([]GrantInfo, 0, len(grants))
		for _, g := range grants {
			v := byID[g.Service]
			infos = append(infos, GrantInfo{Grant: g, ServiceName: v.Name, OwnerName: names[v.Site], SiteName: names[g.Site]})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the grants: %w", err)
	}
	sortGrants(infos)
	return infos, nil
}

func sortGrants(infos []GrantInfo) {
	slices.SortFunc(infos, func(a, b GrantInfo) int {
		return cmp.Or(cmp.Compare(a.ServiceName, b.ServiceName), cmp.Compare(a.SiteName, b.SiteName))
	})
}
