package ui_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
)

func TestReportSaysWhatAndWhatToDo(t *testing.T) {
	for _, c := range []struct {
		err  error
		code int
		want string
	}{
		{nil, ui.ExitDone, ""},
		{errors.New("it broke"), ui.ExitFailed, "towpath: it broke\n"},
		{ui.Usagef("do this", "bad %s", "flag"), ui.ExitUsage, "towpath: bad flag\nhint: do this\n"},
		{fmt.Errorf("outer: %w", ui.Hint(errors.New("inner"), "try %d", 2)), ui.ExitFailed, "towpath: outer: inner\nhint: try 2\n"},
		{ui.Silent(ui.ExitUnhealthy), ui.ExitUnhealthy, ""},
	} {
		var b bytes.Buffer
		if code := ui.Report(&b, c.err); code != c.code || b.String() != c.want {
			t.Errorf("%v: code %d, %q; want %d, %q", c.err, code, b.String(), c.code, c.want)
		}
	}
}

func TestTableFillsGaps(t *testing.T) {
	var b bytes.Buffer
	if err := ui.Table(&b, []string{"A", "LONGER"}, [][]string{{"one", ""}, {"", "x"}}); err != nil {
		t.Fatal(err)
	}
	if want := "A    LONGER\none  -\n-    x\n"; b.String() != want {
		t.Errorf("table:\n%s\nwant:\n%s", b.String(), want)
	}
}

func TestHumanFigures(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for d, want := range map[time.Duration]string{
		-time.Second: "0 s ago", 59 * time.Second: "59 s ago", 90 * time.Second: "1 min ago", 3 * time.Hour: "3 h ago", 72 * time.Hour: "3 days ago",
	} {
		if got := ui.Ago(now.Add(-d), now); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
	if got := ui.Ago(time.Time{}, now); got != "never" {
		t.Errorf("the zero time: %q", got)
	}
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 12_600_000: "12.6 MB", 5e15: "5000.0 TB"} {
		if got := ui.Bytes(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

func TestProgressWithoutATerminalIsQuiet(t *testing.T) {
	var b bytes.Buffer
	p := ui.NewProgress(&b, false, "sending", 100)
	for i := range 100 {
		p.Set(i+1, "")
	}
	if n := strings.Count(b.String(), "\n"); n != 5 {
		t.Errorf("%d lines for a hundred steps, want 5:\n%s", n, b.String())
	}
}
