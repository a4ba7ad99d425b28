package adminapi

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/towpath/towpath/ipam/plandoc"
	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/coordinator"
)

// maxImport bounds the body of an import, in bytes: as much as a plan in a file may have.
const maxImport = plandoc.MaxBytes

// Document is a plan as "towpath plan export --format json" writes it.
type Document struct {
	Format string  `json:"format" enum:"towpath-plan/1"`
	Ranges []Entry `json:"ranges" nullable:"false"`
}

// Entry is one range of a Document.
type Entry struct {
	Kind    string `json:"kind,omitempty" doc:"pool, allocation, reserved, foreign, lan or reported; if absent, allocation with a site and else reserved"`
	Range   string `json:"range" example:"10.201.7.0/28"`
	Site    string `json:"site,omitempty"`
	Purpose string `json:"purpose,omitempty"`
	Label   string `json:"label,omitempty"`
	Maps    string `json:"maps,omitempty" doc:"the part of the site's LAN that a mapped allocation stands for"`
	Comment string `json:"comment,omitempty"`
	Until   string `json:"until,omitempty" doc:"date, or time of RFC 3339"`
	Line    int    `json:"line,omitempty" minimum:"0" doc:"where it stands in the file it comes from, for the words of problems; its number if absent"`
}

// ImportOptions say how a plan is taken over.
type ImportOptions struct {
	DryRun      bool `json:"dry_run,omitempty" doc:"say what would change and change nothing"`
	CreateSites bool `json:"create_sites,omitempty" doc:"make a clinic of every owner that is no site yet"`
	Force       bool `json:"force,omitempty" doc:"take pools that are advised against"`
}

// NewImport is a plan to be taken over.
type NewImport struct {
	Plan Document `json:"plan"`
	ImportOptions
}

// ImportResult is what an import did, or would do.
type ImportResult struct {
	Problems []Problematic `json:"problems" nullable:"false" doc:"what keeps the plan from being taken over; then nothing was changed"`
	Changes  []Change      `json:"changes" nullable:"false" doc:"all additions"`
	Sites    []string      `json:"sites" nullable:"false" doc:"names of the sites that are made"`
	Done     bool          `json:"done" doc:"whether it was taken over"`
}

// Problematic is one thing that is wrong with a plan.
type Problematic struct {
	Line int    `json:"line,omitempty" doc:"where it shows; absent when it is of no single line"`
	With int    `json:"with,omitempty" doc:"the earlier line that it is about, too"`
	Text string `json:"text"`
}

// Change is one addition to the plan.
type Change struct {
	Text   string `json:"text" doc:"the change in words" example:"+ 10.201.7.0/28 of praxis-nord"`
	Before *Entry `json:"before,omitempty"`
	After  *Entry `json:"after,omitempty"`
}

// documentOf puts lines beside the ranges of d.
func documentOf(d plandoc.Document) (Document, error) {
	text, err := json.Marshal(d)
	if err != nil {
		return Document{}, err
	}
	var out Document
	if err := json.Unmarshal(text, &out); err != nil {
		return Document{}, fmt.Errorf("encode the plan: %w", err)
	}
	for i := range out.Ranges {
		out.Ranges[i].Line = d.Entries[i].Line
	}
	return out, nil
}

// headLines is how many lines of a document in JSON come before that of the first range.
const headLines = 1

// document reads d, with its own lines in the entries and problems.
func (d Document) document() (plandoc.Document, []plandoc.Problem, error) {
	lines := make([]int, 0, len(d.Ranges))
	var text bytes.Buffer
	fmt.Fprintf(&text, "{\"format\": %q, \"ranges\": [", d.Format)
	for i, e := range d.Ranges {
		if e.Line == 0 {
			e.Line = i + 1
		}
		lines = append(lines, e.Line)
		e.Line = 0
		line, err := json.Marshal(e)
		if err != nil {
			return plandoc.Document{}, nil, fmt.Errorf("decode the plan: %w", err)
		}
		if i > 0 {
			text.WriteByte(',')
		}
		text.WriteByte('\n')
		text.Write(line)
	}
	text.WriteString("]}")
	read, problems, err := plandoc.ReadJSON(&text)
	if err != nil {
		return plandoc.Document{}, nil, provisioning.Errorf(provisioning.Invalid, "%s", err).WithHint("import it in parts")
	}
	lineOf := func(n int) int {
		if n -= headLines; n < 1 || n > len(lines) {
			return 0
		}
		return lines[n-1]
	}
	for i := range read.Entries {
		read.Entries[i].Line = lineOf(read.Entries[i].Line)
	}
	for i, p := range problems {
		problems[i].Line, problems[i].With = lineOf(p.Line), lineOf(p.With)
	}
	return read, problems, nil
}

func importView(r coordinator.ImportResult) (ImportResult, error) {
	out := ImportResult{
		Problems: each(r.Problems, func(p plandoc.Problem) Problematic { return Problematic(p) }), Sites: list(r.Sites), Done: r.Done,
		Changes: make([]Change, 0, len(r.Changes)),
	}
	var both plandoc.Document
	for _, c := range r.Changes {
		for _, e := range []*plandoc.Entry{c.Before, c.After} {
			if e != nil {
				both.Entries = append(both.Entries, *e)
			}
		}
	}
	views, err := documentOf(both)
	if err != nil {
		return out, err
	}
	next := func(e *plandoc.Entry) *Entry {
		if e == nil {
			return nil
		}
		v := &views.Ranges[0]
		views.Ranges = views.Ranges[1:]
		return v
	}
	for _, c := range r.Changes {
		out.Changes = append(out.Changes, Change{Text: c.String(), Before: next(c.Before), After: next(c.After)})
	}
	return out, nil
}
