package postgres

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestEscape(t *testing.T) {
	for in, want := range map[string]string{
		"":             "",
		"größer":       "größer",
		`a\b`:          `a\\b`,
		"a\x00b":       `a\x00b`,
		"a\xffb\xc3":   `a\xffb\xc3`,
		`\x00`:         `\\x00`,
		"\ufffd stays": "\ufffd stays",
	} {
		if got := escape(in); got != want {
			t.Errorf("escape(%q) = %q, want %q", in, got, want)
		}
	}
	for _, in := range []string{`\`, `a\`, `\x`, `\x0`, `\xzz`, `\n`, `\x+1`} {
		if got, err := unescape(in); err == nil {
			t.Errorf("unescape(%q) = %q", in, got)
		}
	}
}

func FuzzEscape(f *testing.F) {
	for _, s := range []string{"", "plain", "a\\b", "\x00", "\xff\xfe", "größer\x00\n", `\x00`, "\ufffd"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		e := escape(s)
		if !utf8.ValidString(e) || strings.Contains(e, "\x00") {
			t.Fatalf("escape(%q) = %q, which PostgreSQL refuses", s, e)
		}
		if got, err := unescape(e); err != nil || got != s {
			t.Fatalf("%q came back as %q, %v", s, got, err)
		}
		// What nobody escaped must not crash it.
		_, _ = unescape(s)
	})
}
