package coordinator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/towpath/towpath/ipam/plandoc"
	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
)

// What ends a transaction in which nothing is to be changed.
var (
	errProblems = errors.New("the document has problems")
	errNothing  = errors.New("the plan has all of the document")
)

// Import takes over a plan from a document, all of it or nothing. What the plan has already (kind, prefix and owner) stays as it is, with
// its comment; reported ranges and quarantines that are over are passed over. An owner is found by the name of the Site, or by what becomes
// the name of a text such as "Praxis Dr. Müller".
func (c *Coordinator) Import(ctx context.Context, actor string, d plandoc.Document, o ImportOptions) (ImportResult, error) {
	if len(d.Entries) > plandoc.MaxEntries {
		return ImportResult{}, provisioning.Errorf(provisioning.Invalid, "the plan has %d ranges, more than %d", len(d.Entries), plandoc.MaxEntries).
			WithHint("import it in parts")
	}
	var m importer
	if o.DryRun {
		err := c.viewPlan(ctx, func(tx *planTx) error {
			var err error
			m, err = tx.prepare(d, o)
			return err
		})
		return m.ImportResult, err
	}
	err := c.changePlan(ctx, actor, "plan.import", func(tx *planTx) (string, string, error) {
		var err error
		if m, err = tx.prepare(d, o); err != nil {
			return "", "", err
		}
		if len(m.Problems) > 0 {
			return "", "", errProblems
		}
		if len(m.Changes) == 0 {
			return "", "", errNothing
		}
		return "plan", fmt.Sprintf("%d ranges, %d sites", len(m.Changes), len(m.newSites)), tx.take(m)
	})
	if errors.Is(err, errProblems) {
		return m.ImportResult, nil
	}
	if err != nil && !errors.Is(err, errNothing) {
		return ImportResult{}, err
	}
	m.Done = true
	return m.ImportResult, nil
}

// importer is an ImportResult with what the database must be told.
type importer struct {
	ImportResult
	newSites []provisioning.Site
	// ids are the owners by name.
	ids map[string]string
}

// prepare finds out what an import would do, and changes nothing.
func (tx *planTx) prepare(d plandoc.Document, o ImportOptions) (importer, error) {
	existing, err := tx.asDocument()
	if err != nil {
		return importer{}, err
	}
	owners, err := newOwners(tx, o.CreateSites, tx.at)
	if err != nil {
		return importer{}, err
	}
	doc := plandoc.Document{Entries: make([]plandoc.Entry, 0, len(d.Entries))}
	for _, e := range d.Entries {
		over := e.Owner == "" && !e.Until.IsZero() && !e.Until.After(tx.at)
		if e.Kind == plandoc.Reported || over {
			continue
		}
		e.Owner = owners.resolve(e)
		doc.Entries = append(doc.Entries, e)
	}
	m := importer{newSites: owners.created(), ids: owners.ids}
	for _, s := range m.newSites {
		m.Sites = append(m.Sites, s.Name)
	}
	fresh, differing := subtract(doc, existing)
	own, err := tx.checkEntries(fresh, doc, existing, o.Force)
	if err != nil {
		return importer{}, err
	}
	m.Problems = sortProblems(slices.Concat(owners.problems, differing, own, plandoc.Check(doc, existing)))
	for _, e := range fresh {
		m.Changes = append(m.Changes, plandoc.Change{After: &e})
	}
	return m, nil
}

// asDocument is the plan but for what is in quarantine no longer.
func (tx *planTx) asDocument() (plandoc.Document, error) {
	names, err := ownerNames(tx)
	if err != nil {
		return plandoc.Document{}, err
	}
	ranges, err := tx.Ranges().List()
	if err != nil {
		return plandoc.Document{}, fmt.Errorf("read the plan: %w", err)
	}
	d := plandoc.Document{Entries: make([]plandoc.Entry, 0, len(ranges))}
	for _, r := range ranges {
		if r.Quarantined() && !r.Until.After(tx.at) {
			continue
		}
		d.Entries = append(d.Entries, plandoc.Entry{
			Kind: plandoc.Kind(r.Kind), Prefix: r.Prefix, Owner: names[r.Owner], Purpose: string(r.Purpose), Label: r.Label, Maps: r.Maps,
			Note: r.Note, Until: r.Until,
		})
	}
	return d, nil
}

// sameRange is an Entry without what may differ between a document and the plan.
func sameRange(e plandoc.Entry) plandoc.Entry {
	return plandoc.Entry{Kind: e.Kind, Prefix: e.Prefix, Owner: e.Owner}
}

// subtract returns what of doc the plan does not have, in the order of the plan, pools first, and what it has otherwise.
func subtract(doc, existing plandoc.Document) ([]plandoc.Entry, []plandoc.Problem) {
	have := make(map[plandoc.Entry][]plandoc.Entry, len(existing.Entries))
	for _, e := range existing.Entries {
		have[sameRange(e)] = append(have[sameRange(e)], e)
	}
	var fresh []plandoc.Entry
	var problems []plandoc.Problem
	for _, e := range doc.Entries {
		same := have[sameRange(e)]
		if len(same) == 0 {
			fresh = append(fresh, e)
			continue
		}
		have[sameRange(e)] = same[1:]
		if what := difference(e, same[0]); what != "" {
			problems = append(problems, plandoc.Problem{Line: e.Line, Text: fmt.Sprintf("%v is in the plan with another %s: write it as it is there, or release it first", e, what)})
		}
	}
	slices.SortStableFunc(fresh, func(a, b plandoc.Entry) int {
		return cmp.Or(cmp.Compare(notPool(a), notPool(b)), a.Compare(b))
	})
	return fresh, problems
}

func notPool(e plandoc.Entry) int {
	if e.Kind == plandoc.Pool {
		return 0
	}
	return 1
}

// difference names what a range of the plan has otherwise than the document says.
func difference(e, has plandoc.Entry) string {
	switch {
	case e.Purpose != has.Purpose:
		return fmt.Sprintf("purpose, %q", has.Purpose)
	case e.Maps != has.Maps:
		return fmt.Sprintf("LAN behind it, %v", has.Maps)
	case e.Label != "" && e.Label != has.Label:
		return fmt.Sprintf("label, %q", has.Label)
	case !e.Until.IsZero() && !e.Until.Equal(has.Until):
		return "end"
	}
	return ""
}

// sortProblems lists problems by line, each once, no more than a document's reader would.
func sortProblems(list []plandoc.Problem) []plandoc.Problem {
	slices.SortFunc(list, func(a, b plandoc.Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.With, b.With), cmp.Compare(a.Text, b.Text))
	})
	list = slices.Compact(list)
	if len(list) > plandoc.MaxProblems {
		list = append(list[:plandoc.MaxProblems],
			plandoc.Problem{Text: fmt.Sprintf("there are more than %d problems: correct these first", plandoc.MaxProblems)})
	}
	return list
}

// take stores what was prepared.
func (tx *planTx) take(m importer) error {
	for _, s := range m.newSites {
		if err := tx.Sites().Create(s); err != nil {
			return fmt.Errorf("store the site %s: %w", s.Name, err)
		}
	}
	if err := tx.recordSites(m.Sites); err != nil {
		return err
	}
	for _, c := range m.Changes {
		e := c.After
		r, err := tx.Ranges().Create(provisioning.Range{
			Kind: provisioning.RangeKind(e.Kind), Prefix: e.Prefix, Owner: m.ids[e.Owner], Purpose: provisioning.RangePurpose(e.Purpose),
			Label: e.Label, Maps: e.Maps, Note: e.Note, Created: tx.at, Until: e.Until,
		})
		switch {
		case errors.Is(err, store.ErrOverlap), errors.Is(err, store.ErrOutside):
			return &clashError{r, err}
		case err != nil:
			return fmt.Errorf("store %v: %w", e, err)
		}
		if err := recordRangeOf(tx, tx.at, tx.actor, provisioning.RangeCreated, r, e.Owner); err != nil {
			return err
		}
	}
	return nil
}

// recordSites writes who was made into the audit trail, many to an event: each event waits for the hash of the one before.
func (tx *planTx) recordSites(names []string) error {
	for len(names) > 0 {
		n, length := 0, 0
		for n < len(names) && (n == 0 || length+len(names[n])+1 <= maxLong) {
			length += len(names[n]) + 1
			n++
		}
		if err := record(tx, tx.at, tx.actor, "site.create", fmt.Sprintf("%d sites of a document", n), strings.Join(names[:n], " ")); err != nil {
			return err
		}
		names = names[n:]
	}
	return nil
}
