package coordinator

import (
	"context"
	"fmt"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/wire"
)

// SetPoll makes a Site's gateway fetch new studies for a Service that the Site may use from an archive on its LAN, or ends that when o is
// the zero value. What was fetched before is not fetched again, whatever changes.
func (c *Coordinator) SetPoll(ctx context.Context, actor, service, site string, o wire.PollOptions) (GrantInfo, error) {
	action := "poll.set"
	if o == (wire.PollOptions{}) {
		action = "poll.end"
	}
	var info GrantInfo
	err := c.change(ctx, actor, action, func(tx store.Tx) (string, string, error) {
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
		if err := provisioning.CheckPoll(v, o); err != nil {
			return "", "", err
		}
		g, err := grantOf(tx, v, user)
		if err != nil {
			return "", "", err
		}
		if owner.ID == user.ID {
			return "", "", provisioning.Errorf(provisioning.Invalid, "%s is a service of %s itself: there is nothing to be carried", v.Name, user.Name).
				WithHint("name a service of a center that the site may use")
		}
		if action == "poll.end" && g.Poll == (wire.PollOptions{}) {
			return "", "", provisioning.Errorf(provisioning.NotFound, "site %s fetches no studies for %s", user.Name, v.Name).WithHint(`"towpath poll list" shows what is fetched`)
		}
		g.Poll = o
		if err := tx.Grants().Remove(v.ID, user.ID); err != nil {
			return "", "", fmt.Errorf("replace the grant: %w", err)
		}
		if err := tx.Grants().Create(g); err != nil {
			return "", "", fmt.Errorf("replace the grant: %w", err)
		}
		info = GrantInfo{Grant: g, ServiceName: v.Name, OwnerName: owner.Name, SiteName: user.Name}
		return v.Name, "by " + user.Name, nil
	})
	return info, err
}

func grantOf(tx store.Tx, v provisioning.Service, user provisioning.Site) (provisioning.Grant, error) {
	grants, err := tx.Grants().List()
	if err != nil {
		return provisioning.Grant{}, fmt.Errorf("read the grants: %w", err)
	}
	for _, g := range grants {
		if g.Service == v.ID && g.Site == user.ID {
			return g, nil
		}
	}
	return provisioning.Grant{}, provisioning.Errorf(provisioning.NotFound, "site %s may not use %s", user.Name, v.Name).
		WithHint("allow it first: towpath allow %s %s", user.Name, v.Name)
}
