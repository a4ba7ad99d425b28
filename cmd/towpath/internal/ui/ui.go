package ui

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// Exit codes of every command.
const (
	ExitDone      = 0
	ExitFailed    = 1
	ExitUsage     = 2
	ExitUnhealthy = 3
	ExitDenied    = 4
)

// Error is an error with a hint and an exit code of its own.
type Error struct {
	Err  error
	Hint string
	Code int
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Usagef is an error of the person who typed.
func Usagef(hint, format string, a ...any) error {
	return &Error{Err: fmt.Errorf(format, a...), Hint: hint, Code: ExitUsage}
}

// Hint adds what to do to an error.
func Hint(err error, format string, a ...any) error {
	return &Error{Err: err, Hint: fmt.Sprintf(format, a...), Code: ExitFailed}
}

// Silent ends a command with a code when everything was said already.
func Silent(code int) error { return &Error{Err: errSilent, Code: code} }

var errSilent = errors.New("")

// Report writes what went wrong to w, in one or two lines, and returns the exit code.
func Report(w io.Writer, err error) int {
	if err == nil {
		return ExitDone
	}
	code, hint := ExitFailed, ""
	if e, ok := errors.AsType[*Error](err); ok {
		code, hint = e.Code, e.Hint
	}
	if errors.Is(err, errSilent) {
		return code
	}
	fmt.Fprintf(w, "towpath: %s\n", strings.TrimSpace(err.Error()))
	if hint != "" {
		fmt.Fprintf(w, "hint: %s\n", hint)
	}
	return code
}

// JSON writes v for machines.
func JSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	return nil
}

// Table writes rows under a header, in columns. Empty cells become a dash.
func Table(w io.Writer, header []string, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, strings.Join(header, "\t"))
	for _, r := range rows {
		for i := range r {
			if r[i] == "" {
				r[i] = "-"
			}
		}
		fmt.Fprintln(t, strings.Join(r, "\t"))
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("write the table: %w", err)
	}
	return nil
}

// Ago says how long ago t was, coarsely; "never" for the zero time.
func Ago(t, now time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return For(t, now) + " ago"
}

// For says how long something has been so since t, coarsely; "ever" for the zero time.
func For(t, now time.Time) string {
	if t.IsZero() {
		return "ever"
	}
	d := now.Sub(t)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", max(0, int(d.Seconds())))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

// Bytes writes a size in the powers of ten that network people use.
func Bytes(n int64) string {
	const unit = 1000
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	v, units := float64(n), "kMGT"
	for i := range units {
		v /= unit
		if v < unit || i == len(units)-1 {
			return fmt.Sprintf("%.1f %cB", v, units[i])
		}
	}
	return ""
}

// JSONLine writes v for machines as one line, for commands that go on.
func JSONLine(w io.Writer, v any) error {
	if err := json.NewEncoder(w).Encode(v); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	return nil
}
