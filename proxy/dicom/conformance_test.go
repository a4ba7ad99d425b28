package dicom_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/towpath/towpath/proxy/dicom/dimse"
)

// TestConformanceStatementIsTheCode compares the table of C-STORE statuses in the conformance statement with what the code makes of each of
// the 65536 numbers.
func TestConformanceStatementIsTheCode(t *testing.T) {
	b, err := os.ReadFile("../../docs/conformance-dicom.md")
	if err != nil {
		t.Fatal(err)
	}
	type row struct {
		pattern *regexp.Regexp
		what    string
	}
	var rows []row
	for line := range strings.Lines(string(b)) {
		cells := strings.Split(line, "|")
		if len(cells) < 6 {
			continue
		}
		what := strings.TrimSpace(cells[2])
		if what != "delivered" && what != "tried again" && what != "parked" {
			continue
		}
		var codes []string
		for code := range strings.SplitSeq(cells[1], ",") {
			codes = append(codes, strings.ReplaceAll(strings.TrimSpace(code), "x", "."))
		}
		rows = append(rows, row{regexp.MustCompile("^(" + strings.Join(codes, "|") + ")$"), what})
	}
	if len(rows) < 10 {
		t.Fatalf("only %d lines of the table found", len(rows))
	}
	for n := range 1 << 16 {
		want := "parked"
		switch dimse.Status(n).Class() {
		case dimse.ClassSuccess, dimse.ClassWarning:
			want = "delivered"
		case dimse.ClassTransient:
			want = "tried again"
		default:
		}
		for _, r := range rows {
			if r.pattern.MatchString(fmt.Sprintf("%04X", n)) {
				if r.what != want {
					t.Errorf("status %04X: %s, and the statement says %s", n, want, r.what)
				}
				break
			}
		}
	}
}
