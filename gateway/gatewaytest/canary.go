package gatewaytest

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"unicode/utf16"
)

// Canary is a set of texts that must not be found, by what they are.
type Canary map[string]string

// needle is a text in one encoding.
type needle struct {
	what  string
	bytes []byte
}

// needles returns each text as it may stand in DICOM (ASCII-compatible character sets), HL7 (the same, or UTF-16), upper and lower
// case as systems fold names, and each of these in base64, as OBX segments and JSON carry bytes.
func (c Canary) needles() []needle {
	var plain []needle
	for _, what := range slices.Sorted(maps.Keys(c)) {
		seen := map[string]bool{}
		for _, text := range []string{c[what], strings.ToUpper(c[what]), strings.ToLower(c[what])} {
			if seen[text] {
				continue
			}
			seen[text] = true
			units := utf16.Encode([]rune(text))
			little, big := make([]byte, 0, 2*len(units)), make([]byte, 0, 2*len(units))
			for _, u := range units {
				little = append(little, byte(u), byte(u>>8))
				big = append(big, byte(u>>8), byte(u))
			}
			plain = append(plain, needle{what, []byte(text)}, needle{what + " in UTF-16LE", little}, needle{what + " in UTF-16BE", big})
		}
	}
	all := slices.Clone(plain)
	for _, n := range plain {
		for shift := range 3 {
			all = append(all, needle{n.what + " in base64", base64Core(n.bytes, shift)})
		}
	}
	return all
}

// base64Core is the part of the base64 of a longer text that depends on b alone, when b begins at an offset of shift modulo 3.
func base64Core(b []byte, shift int) []byte {
	padded := append(make([]byte, shift), b...)
	s := base64.RawStdEncoding.EncodeToString(padded)
	// The first characters mix with what stands before, the last one with what follows.
	from := (shift*8 + 5) / 6
	to := len(padded) * 8 / 6
	return []byte(s[from:to])
}

// Hit is a place where a Canary was found.
type Hit struct {
	What   string
	Offset int
}

func (h Hit) String() string { return fmt.Sprintf("%s at byte %d", h.What, h.Offset) }

// Search finds every occurrence in data.
func (c Canary) Search(data []byte) []Hit {
	var hits []Hit
	for _, n := range c.needles() {
		for at := 0; ; {
			i := bytes.Index(data[at:], n.bytes)
			if i < 0 {
				break
			}
			hits = append(hits, Hit{n.what, at + i})
			at += i + len(n.bytes)
		}
	}
	return hits
}

// SearchFile finds every occurrence in a file.
func (c Canary) SearchFile(name string) ([]Hit, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	return c.Search(data), nil
}
