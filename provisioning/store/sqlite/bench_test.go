package sqlite

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/store/storetest"
)

func BenchmarkAllocate(b *testing.B) {
	storetest.Benchmark(b, func(t testing.TB) store.Store { return openAt(t, filepath.Join(t.TempDir(), "towpath.db")) })
}

// explain returns the steps in which SQLite would run a query.
func explain(t *testing.T, s *Store, query string, args ...any) (steps []string) {
	t.Helper()
	rows, err := s.read.QueryContext(t.Context(), `EXPLAIN QUERY PLAN `+query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	for rows.Next() {
		var id, parent, unused int
		var step string
		if err := rows.Scan(&id, &parent, &unused, &step); err != nil {
			t.Fatal(err)
		}
		steps = append(steps, step)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return steps
}

// TestRulesUseTheIndexes asks SQLite how it would run what the triggers ask, and what Store does. A scan, or a search by kind and family
// alone, would make every allocation cost what the plan holds; that is enough only for the least of the lengths.
func TestRulesUseTheIndexes(t *testing.T) {
	s := openAt(t, filepath.Join(t.TempDir(), "towpath.db"))
	lo := make([]byte, 16)
	check := func(query string, args ...any) {
		t.Helper()
		for _, step := range explain(t, s, query, args...) {
			if regexp.MustCompile(`^SCAN (ranges|range_history|[rhap])\b|ranges_lo \((kind=\? AND )?family=\?\)|\(kind=\?\)`).MatchString(step) {
				t.Errorf("%s\n\t%s", query, step)
			}
		}
	}
	queries := triggerQueries(t, s)
	if len(queries) < 20 {
		t.Fatalf("found only %d queries in the triggers", len(queries))
	}
	for _, query := range queries {
		check(query)
	}
	check(overlappingRanges, 4, lo, lo, 120)
	check(overlappingHistory, 4, lo, lo, 120, 10)
	check(selectRange+`WHERE label = ?`, "north")
	check(selectRange+`WHERE owner = ? AND owner <> ''`+orderRange, "hub")
	check(selectRange+`WHERE until <= ? AND owner <> ''`+orderRange, 1)
	check(`DELETE FROM ranges WHERE until <= ? AND owner = ''`, 1)
}

// triggerQueries returns what the triggers of ranges ask, with some values for the row that is new or old.
func triggerQueries(t *testing.T, s *Store) (out []string) {
	t.Helper()
	schema, err := schemaOf(t.Context(), s.read)
	if err != nil {
		t.Fatal(err)
	}
	values := strings.NewReplacer(".lo", "x'00'", ".hi", "x'00'", ".bits", "120", ".family", "4", ".kind", "'lan'", ".label", "'north'",
		".owner", "'site_a'", ".purpose", "'wan'", ".id", "7", ".maps_text", "''", ".maps", "x'00'", ".prefix_text", "''")
	for name, text := range schema {
		if !strings.HasPrefix(name, "trigger ranges_") {
			continue
		}
		head, body, _ := strings.Cut(text, "\nBEGIN\n")
		for statement := range strings.SplitSeq(strings.TrimSuffix(body, "END"), ";") {
			if _, condition, found := strings.Cut(statement, " WHERE "); found && strings.Contains(statement, "RAISE") {
				out = append(out, condition)
			}
		}
		if _, condition, found := strings.Cut(head, " WHEN "); found {
			out = append(out, condition)
		}
	}
	for i, condition := range out {
		out[i] = `SELECT ` + regexp.MustCompile(`\b(NEW|OLD)\.\w+`).ReplaceAllStringFunc(condition, func(column string) string {
			return values.Replace(column[len("NEW"):])
		})
	}
	return out
}
