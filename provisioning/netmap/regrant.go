package netmap

import (
	"cmp"
	"maps"
	"slices"

	"github.com/towpath/towpath/provisioning"
)

// Regrant returns NewIndex(s) for an s that differs from the Snapshot of x in its generation, in its times and in grants to the users alone.
// It works through those and their partners, and copies the rest.
func (x *Index) Regrant(s Snapshot, users map[provisioning.SiteID]bool) *Index {
	var grants []provisioning.Grant
	for _, g := range s.Grants {
		if users[g.Site] {
			grants = append(grants, g)
		}
	}
	fresh := &Index{s: s, sites: x.sites, services: x.services, links: map[provisioning.SiteID][]link{}}
	fresh.addGrants(grants)
	if len(x.omissions)+len(fresh.omissions) > 0 {
		return NewIndex(s) // they stand in the order in which all is gone through
	}
	touched := map[provisioning.SiteID]bool{}
	for id := range fresh.links {
		touched[id] = true
	}
	for id, changed := range users {
		if !changed {
			continue
		}
		touched[id] = true
		for _, l := range x.links[id] {
			touched[l.service.Site] = true
		}
	}
	next := *x
	next.s, next.links = s, maps.Clone(x.links)
	for id := range touched {
		links := slices.DeleteFunc(slices.Clone(x.links[id]), func(l link) bool { return users[l.user] })
		links = append(links, fresh.links[id]...)
		if len(links) == 0 {
			delete(next.links, id)
			continue
		}
		slices.SortFunc(links, func(a, b link) int {
			return cmp.Or(a.created.Compare(b.created), cmp.Compare(a.service.ID, b.service.ID), cmp.Compare(a.user, b.user))
		})
		next.links[id] = links
	}
	return &next
}
