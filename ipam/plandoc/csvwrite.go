package plandoc

import (
	"encoding/csv"
	"fmt"
	"io"
	"strings"
)

// WriteCSV writes d for a spreadsheet, with commas, a line of column names and in the order of the entries. A text that a spreadsheet
// would take for a formula gets an apostrophe in front, which ReadCSV takes away. An entry that could not be read back is an error.
func WriteCSV(w io.Writer, d Document) error {
	if len(d.Entries) > MaxEntries {
		return fmt.Errorf("%w: it has more than %d ranges", ErrTooLarge, MaxEntries)
	}
	cw := csv.NewWriter(w)
	if err := cw.Write([]string{"site", "range", "comment", "kind", "purpose", "label", "maps", "until"}); err != nil {
		return fmt.Errorf("write the plan: %w", err)
	}
	for _, e := range d.Entries {
		if err := e.Validate(); err != nil {
			return fmt.Errorf("write the plan: %w", err)
		}
		if err := cw.Write([]string{
			guard(e.Owner), e.Prefix.String(), guard(e.Note), string(e.Kind), e.Purpose, guard(e.Label), formatMaps(e.Maps), formatTime(e.Until),
		}); err != nil {
			return fmt.Errorf("write the plan: %w", err)
		}
	}
	cw.Flush()
	if err := cw.Error(); err != nil {
		return fmt.Errorf("write the plan: %w", err)
	}
	return nil
}

// formulaStart begins what spreadsheets run.
const formulaStart = "=+-@"

// guard puts an apostrophe before a text that begins with a formula's first character, whatever apostrophes are there already.
func guard(s string) string {
	if guarded(s) {
		return "'" + s
	}
	return s
}

// unguard undoes guard.
func unguard(s string) string {
	if rest, ok := strings.CutPrefix(s, "'"); ok && guarded(rest) {
		return rest
	}
	return s
}

func guarded(s string) bool {
	rest := strings.TrimLeft(s, "'")
	return rest != "" && strings.ContainsRune(formulaStart, rune(rest[0]))
}
