package coordinator

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/towpath/towpath/ipam"
	"github.com/towpath/towpath/ipam/plandoc"
	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/wire"
)

// owners finds the Sites that a document means.
type owners struct {
	create bool
	at     time.Time
	// ids are the owners that there are or will be, by name; titles those of the Sites that there are.
	ids, titles map[string]string
	// known is what became of a text.
	known map[string]string
	// made are the Sites to be made, by name.
	made     map[string]madeSite
	problems []plandoc.Problem
}

type madeSite struct {
	provisioning.Site
	// text is what stands in the document, line where first.
	text string
	line int
}

func newOwners(tx store.Tx, create bool, at time.Time) (*owners, error) {
	sites, err := tx.Sites().List()
	if err != nil {
		return nil, fmt.Errorf("read the sites: %w", err)
	}
	o := &owners{
		create: create, at: at, ids: map[string]string{hubOwner: hubOwner}, titles: map[string]string{},
		known: map[string]string{}, made: map[string]madeSite{},
	}
	for _, s := range sites {
		o.ids[s.Name], o.titles[s.Name] = string(s.ID), s.Title
	}
	return o, nil
}

// created are the Sites to be made, by name.
func (o *owners) created() []provisioning.Site {
	out := make([]provisioning.Site, 0, len(o.made))
	for _, m := range o.made {
		out = append(out, m.Site)
	}
	slices.SortFunc(out, func(a, b provisioning.Site) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// resolve returns the name of the owner that an entry means, or what stands there if it is nobody's.
func (o *owners) resolve(e plandoc.Entry) string {
	if e.Owner == "" || e.Kind == plandoc.Pool || e.Kind == plandoc.Foreign {
		return e.Owner
	}
	name, ok := o.known[e.Owner]
	if !ok {
		name = o.look(e)
		o.known[e.Owner] = name
	}
	return name
}

func (o *owners) look(e plandoc.Entry) string {
	if _, ok := o.titles[e.Owner]; ok || e.Owner == hubOwner {
		return e.Owner
	}
	fail := func(with int, format string, a ...any) string {
		o.problems = append(o.problems, plandoc.Problem{Line: e.Line, With: with, Text: fmt.Sprintf(format, a...)})
		return e.Owner
	}
	name, title := provisioning.Slug(e.Owner), clean(e.Owner, maxTitle)
	if has, ok := o.titles[name]; ok {
		if has != "" && has != title {
			return fail(0, "is %q the site %s, whose title is %q? Write the name if it is, or rename one of the two", title, name, has)
		}
		return name
	}
	if other, ok := o.made[name]; ok {
		return fail(other.line, "%q and %q would both be the site %s: write two names, or the same", title, clean(other.text, maxTitle), name)
	}
	if !o.create {
		return fail(0, "there is no site %q: make it first, or let the import make those that are missing", title)
	}
	s := provisioning.Site{ID: provisioning.NewSiteID(), Name: name, Kind: wire.Clinic, Created: o.at}
	if title != name {
		s.Title = title
	}
	if err := s.Validate(); err != nil {
		return fail(0, "no site can be made of %q: %s", title, told(err))
	}
	o.made[name], o.ids[name] = madeSite{Site: s, text: e.Owner, line: e.Line}, string(s.ID)
	return name
}

// maxTitle is how much of an owner's text becomes the title of a Site, in bytes.
const maxTitle = 200

// told is an error with what to do about it in one sentence.
func told(err error) string {
	if e, ok := errors.AsType[*provisioning.Error](err); ok && e.Hint != "" {
		return e.Message + ": " + e.Hint
	}
	return err.Error()
}

// checkEntries finds what is wrong with the new entries of doc beyond what plandoc.Check knows.
func (tx *planTx) checkEntries(fresh []plandoc.Entry, doc, existing plandoc.Document, force bool) ([]plandoc.Problem, error) {
	nodes, err := tx.Nodes().List()
	if err != nil {
		return nil, fmt.Errorf("read the nodes: %w", err)
	}
	var facts []netip.Prefix
	for _, n := range nodes {
		for _, w := range believed(n) {
			if !tooWide(w.prefix) {
				facts = append(facts, w.prefix)
			}
		}
	}
	c := entryChecker{force: force, facts: ipam.NewSet(facts...), pools: ipam.NewSet(slices.Concat(doc.Pools(), existing.Pools())...)}
	c.readMaps(fresh, existing.Entries)
	for _, e := range fresh {
		if e.Validate() == nil { // else plandoc.Check tells
			c.check(e)
		}
	}
	return c.problems, nil
}

type entryChecker struct {
	force        bool
	facts, pools *ipam.Set
	// maps are the parts of a Site's LAN that are mapped.
	maps     map[string]*ipam.Set
	problems []plandoc.Problem
}

func (c *entryChecker) readMaps(lists ...[]plandoc.Entry) {
	all := map[string][]netip.Prefix{}
	for _, entries := range lists {
		for _, e := range entries {
			if e.Maps.IsValid() && e.Owner != "" {
				all[e.Owner] = append(all[e.Owner], e.Maps)
			}
		}
	}
	c.maps = make(map[string]*ipam.Set, len(all))
	for owner, list := range all {
		c.maps[owner] = ipam.NewSet(list...)
	}
}

func (c *entryChecker) fail(e plandoc.Entry, format string, a ...any) {
	c.problems = append(c.problems, plandoc.Problem{Line: e.Line, Text: fmt.Sprintf(format, a...)})
}

func (c *entryChecker) check(e plandoc.Entry) {
	if _, _, err := textsOf(e.Label, ""); err != nil {
		c.fail(e, "%v: %s", e, told(err))
	}
	switch e.Kind {
	case plandoc.Pool:
		if err := ipam.CheckPool(e.Prefix, c.force); err != nil {
			c.fail(e, "%v", err)
		}
		for lan := range c.facts.Overlapping(e.Prefix) {
			c.fail(e, "%v overlaps %v, which a box is connected to", e, lan)
			break
		}
	case plandoc.LAN:
		if tooWide(e.Prefix) {
			c.fail(e, "%v is too wide for the LAN of a site", e)
		}
		if e.Owner == hubOwner {
			c.fail(e, "%v: the hub is no site and has no LAN", e)
		}
	case plandoc.Allocation:
		c.mapping(e)
	default:
	}
}

func (c *entryChecker) mapping(e plandoc.Entry) {
	if !e.Maps.IsValid() || e.Owner == "" {
		return
	}
	for pool := range c.pools.Overlapping(e.Maps) {
		c.fail(e, "%v cannot stand for %v, which overlaps the pool %v", e, e.Maps, pool)
		break
	}
	met := 0
	for range c.maps[e.Owner].Overlapping(e.Maps) {
		if met++; met > 1 {
			c.fail(e, "%v: a part of %v is mapped twice", e, e.Maps)
			break
		}
	}
}
