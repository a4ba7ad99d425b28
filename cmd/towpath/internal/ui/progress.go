package ui

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

const (
	barWidth  = 30
	barEvery  = 100 * time.Millisecond
	plainStep = 4 // without a terminal: a line at each quarter
)

// Progress shows how far a long job is: a bar that redraws itself on a terminal, a few lines elsewhere.
type Progress struct {
	w        io.Writer
	terminal bool
	label    string
	total    int

	mu   sync.Mutex
	last time.Time
	told int
}

// NewProgress starts a bar of total steps.
func NewProgress(w io.Writer, terminal bool, label string, total int) *Progress {
	return &Progress{w: w, terminal: terminal, label: label, total: total, told: -1}
}

// Set shows n steps done, with a note behind the bar.
func (p *Progress) Set(n int, note string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	done := n >= p.total
	if p.terminal {
		if now := time.Now(); done || now.Sub(p.last) >= barEvery {
			p.last = now
			full := barWidth * min(n, p.total) / max(p.total, 1)
			fmt.Fprintf(p.w, "\r\x1b[K%s [%s%s] %d/%d %s", p.label, strings.Repeat("=", full), strings.Repeat(" ", barWidth-full), n, p.total, note)
			if done {
				fmt.Fprintln(p.w)
			}
		}
		return
	}
	if q := n * plainStep / max(p.total, 1); q != p.told {
		p.told = q
		fmt.Fprintf(p.w, "%s %d/%d %s\n", p.label, n, p.total, note)
	}
}
