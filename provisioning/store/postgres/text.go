package postgres

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"
)

// plain returns the arguments of a query with every text escaped. Documents are []byte and stay.
func plain(args []any) []any {
	out := make([]any, len(args))
	for i, a := range args {
		if v := reflect.ValueOf(a); v.Kind() == reflect.String {
			a = escape(v.String())
		}
		out[i] = a
	}
	return out
}

// escape writes what PostgreSQL cannot hold as text, NUL and bytes that are no UTF-8, as \x and two digits, and a backslash as two.
func escape(s string) string {
	if utf8.ValidString(s) && !strings.ContainsAny(s, "\\\x00") {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == 0, r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case r == '\\':
			b.WriteString(`\\`)
		default:
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
	return b.String()
}

// unescape reads escape's form.
func unescape(s string) (string, error) {
	if !strings.Contains(s, `\`) {
		return s, nil
	}
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(s, `\`)
		b.WriteString(before)
		switch {
		case !found:
			return b.String(), nil
		case strings.HasPrefix(rest, `\`):
			b.WriteByte('\\')
			s = rest[1:]
		case len(rest) >= 3 && rest[0] == 'x':
			c, err := strconv.ParseUint(rest[1:3], 16, 8)
			if err != nil {
				return "", fmt.Errorf("a stored text has the escape %q", rest[:3])
			}
			b.WriteByte(byte(c))
			s = rest[3:]
		default:
			return "", errors.New("a stored text has a backslash alone")
		}
	}
}

// words scans a column of escaped text.
type words[T ~string] struct{ into *T }

// text is where a column of text goes.
func text[T ~string](into *T) words[T] { return words[T]{into} }

// Scan implements sql.Scanner.
func (w words[T]) Scan(v any) error {
	s, ok := v.(string)
	if !ok {
		return fmt.Errorf("a text is stored as %T", v)
	}
	s, err := unescape(s)
	*w.into = T(s)
	return err
}
