package ui

import (
	"fmt"
	"io"
	"math"
	"strings"
	"unicode/utf8"
)

// Glyphs are the marks that drawings are made of.
type Glyphs struct {
	full, part, rest string
	// levels are for a cell that is partly full, low to high; free and taken for one that is not and one that is.
	free, taken string
	levels      []string
	// branch and last lead to a branch, trunk and gap to what is below it.
	branch, last, trunk, gap string
}

// NewGlyphs returns block elements and box drawing characters of Unicode, or marks that every terminal has.
func NewGlyphs(ascii bool) Glyphs {
	if ascii {
		return Glyphs{
			full: "#", part: "+", rest: ".", free: ".", taken: "#", levels: []string{"-", "=", "+"},
			branch: "|- ", last: "`- ", trunk: "|  ", gap: "   ",
		}
	}
	return Glyphs{
		full: "█", part: "▒", rest: "░", free: "·", taken: "█", levels: []string{"▁", "▂", "▃", "▄", "▅", "▆", "▇"},
		branch: "├─ ", last: "└─ ", trunk: "│  ", gap: "   ",
	}
}

// Bar draws a fraction from 0 to 1. Only nothing looks empty, and only all looks full.
func (g Glyphs) Bar(fraction float64, width int) string {
	cells := math.Min(math.Max(fraction, 0), 1) * float64(width)
	full := int(cells)
	s := strings.Repeat(g.full, full)
	if cells > float64(full) {
		s += g.part
		full++
	}
	return s + strings.Repeat(g.rest, width-full)
}

// Strip draws a cell for each fraction.
func (g Glyphs) Strip(fractions []float64) string {
	var b strings.Builder
	for _, f := range fractions {
		switch {
		case f <= 0:
			b.WriteString(g.free)
		case f >= 1:
			b.WriteString(g.taken)
		default:
			b.WriteString(g.levels[int(f*float64(len(g.levels)))])
		}
	}
	return b.String()
}

// StripKey explains Strip.
func (g Glyphs) StripKey() string {
	return fmt.Sprintf("%s free, %s to %s partly taken, %s taken", g.free, g.levels[0], g.levels[len(g.levels)-1], g.taken)
}

// Branch is a line of a tree and what hangs on it.
type Branch struct {
	// Cells are columns, at least one; the tree is drawn in the first.
	Cells []string
	Sub   []Branch
}

// Tree draws all roots.
func (g Glyphs) Tree(w io.Writer, roots []Branch) error {
	var rows [][]string
	var width []int
	var draw func(all []Branch, lead string, root bool)
	draw = func(all []Branch, lead string, root bool) {
		for i, b := range all {
			mark, below := g.branch, g.trunk
			switch {
			case root:
				mark, below = "", ""
			case i == len(all)-1:
				mark, below = g.last, g.gap
			}
			row := append([]string{lead + mark + b.Cells[0]}, b.Cells[1:]...)
			for n, cell := range row {
				if n == len(width) {
					width = append(width, 0)
				}
				width[n] = max(width[n], utf8.RuneCountInString(cell))
			}
			rows = append(rows, row)
			draw(b.Sub, lead+below, false)
		}
	}
	draw(roots, "", true)
	var b strings.Builder
	for _, row := range rows {
		var line strings.Builder
		for n, cell := range row {
			line.WriteString(cell + strings.Repeat(" ", width[n]-utf8.RuneCountInString(cell)+columnGap))
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("draw the tree: %w", err)
	}
	return nil
}

// columnGap is the space between columns.
const columnGap = 2

// Percent writes a fraction with one decimal. Only nothing is 0.0 % and only all is 100.0 %.
func Percent(fraction float64) string {
	const least = 0.001
	switch {
	case fraction > 0 && fraction < least:
		return "< 0.1 %"
	case fraction < 1 && fraction > 1-least:
		return "> 99.9 %"
	}
	return fmt.Sprintf("%.1f %%", 100*fraction)
}

// Count writes a number with its noun: "1 range", "2 ranges".
func Count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
