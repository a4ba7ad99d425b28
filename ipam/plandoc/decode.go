package plandoc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"unicode/utf16"
	"unicode/utf8"
)

// Errors of a text that is no document at all.
var (
	// ErrTooLarge means that the text has more than MaxBytes or the document more than MaxEntries.
	ErrTooLarge = errors.New("the plan is too large")
	// ErrNotText means that the bytes are of another kind of file.
	ErrNotText = errors.New("this is not a text file")
)

// readText returns all of r as UTF-8 with lines that end in \n. It takes UTF-8 and UTF-16 with a byte order mark, UTF-8 without, and
// everything else as Windows-1252, which is ISO 8859-1 for all that can be printed in it.
func readText(r io.Reader) (string, error) {
	b, err := io.ReadAll(io.LimitReader(r, MaxBytes+1))
	if err != nil {
		return "", fmt.Errorf("read the plan: %w", err)
	}
	if len(b) > MaxBytes {
		return "", fmt.Errorf("%w: it has more than %d bytes", ErrTooLarge, MaxBytes)
	}
	if bytes.HasPrefix(b, []byte("PK\x03\x04")) || bytes.HasPrefix(b, []byte("\xd0\xcf\x11\xe0")) {
		return "", fmt.Errorf("%w but a spreadsheet: save it as CSV", ErrNotText)
	}
	switch {
	case bytes.HasPrefix(b, []byte("\xff\xfe")):
		b = fromUTF16(b[2:], binary.LittleEndian)
	case bytes.HasPrefix(b, []byte("\xfe\xff")):
		b = fromUTF16(b[2:], binary.BigEndian)
	case !utf8.Valid(b):
		b = fromWindows(b)
	}
	b = bytes.TrimPrefix(b, []byte("\ufeff"))
	if bytes.IndexByte(b, 0) >= 0 {
		return "", fmt.Errorf("%w: it holds zero bytes", ErrNotText)
	}
	b = bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n"))
	return string(bytes.ReplaceAll(b, []byte("\r"), []byte("\n"))), nil
}

func fromUTF16(b []byte, order binary.ByteOrder) []byte {
	units := make([]uint16, len(b)/2)
	for i := range units {
		units[i] = order.Uint16(b[2*i:])
	}
	return []byte(string(utf16.Decode(units)))
}

func fromWindows(b []byte) []byte {
	// The 32 codes from 0x80 on, in which Windows-1252 differs from ISO 8859-1; the five it leaves open are the replacement character.
	const upper = "€\ufffd‚ƒ„…†‡ˆ‰Š‹Œ\ufffdŽ\ufffd\ufffd‘’“”•–—˜™š›œ\ufffdžŸ"
	high := []rune(upper)
	out := make([]byte, 0, len(b)+len(b)/8)
	for _, c := range b {
		switch {
		case c >= 0x80 && c < 0xa0:
			out = utf8.AppendRune(out, high[c-0x80])
		default:
			out = utf8.AppendRune(out, rune(c))
		}
	}
	return out
}
