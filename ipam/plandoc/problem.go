package plandoc

import (
	"cmp"
	"fmt"
	"slices"
)

// Problem is one thing that is wrong with a document.
type Problem struct {
	// Line is where it shows, 0 when it is of no single line.
	Line int `json:"line,omitempty"`
	// With is the earlier line that it is about, too, or 0.
	With int    `json:"with,omitempty"`
	Text string `json:"text"`
}

// String is "line 17: …".
func (p Problem) String() string {
	if p.Line == 0 {
		return p.Text
	}
	return fmt.Sprintf("line %d: %s", p.Line, p.Text)
}

func (p Problem) compare(o Problem) int {
	return cmp.Or(cmp.Compare(p.Line, o.Line), cmp.Compare(p.With, o.With), cmp.Compare(p.Text, o.Text))
}

// problems collects up to MaxProblems.
type problems struct {
	list []Problem
	more bool
}

func (p *problems) add(q Problem) {
	if p.full() {
		p.more = true
		return
	}
	p.list = append(p.list, q)
}

func (p *problems) at(line int, format string, a ...any) {
	p.add(Problem{Line: line, Text: fmt.Sprintf(format, a...)})
}

func (p *problems) full() bool { return len(p.list) >= MaxProblems }

// sorted returns all by line, and the line that says when there are more.
func (p *problems) sorted() []Problem {
	slices.SortStableFunc(p.list, Problem.compare)
	if p.more {
		return append(p.list, Problem{Text: fmt.Sprintf("there are more than %d problems: correct these first", MaxProblems)})
	}
	return p.list
}
