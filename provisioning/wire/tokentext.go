package wire

import (
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strings"
	"unicode"
)

// The text of a token is "enr1-" and then groups of eight characters, five bits each, in Crockford's base 32: no i, l, o or u, upper case
// like lower case. The bytes behind it:
//
//	1   length of all in units of 5 bytes, which is in groups
//	1+n token id
//	16  secret
//	20  fingerprint
//	1   number of URLs, then for each: 0 for http or 1 for https, length, host and port
//	0-4 zeros, so that groups come out even
//	4   CRC-32C of all before
//
// A CRC finds every error of up to 32 neighboring bits, hence every single wrong character and every swap of neighbors. It is there for
// typing errors only: what protects against people is the secret and the fingerprint.
const (
	tokenPrefix   = "enr"
	tokenVersion  = '1'
	tokenAlphabet = "0123456789abcdefghjkmnpqrstvwxyz"
	groupChars    = 8
	groupBytes    = 5
	checksumSize  = 4
	maxTokenBytes = 96 * groupBytes
	maxTokenText  = 8 << 10
)

var (
	tokenBase32 = base32.NewEncoding(tokenAlphabet).WithPadding(base32.NoPadding)
	castagnoli  = crc32.MakeTable(crc32.Castagnoli)
)

// Reveal returns the text of the token, with the secret in it. It is empty if the Token does not pass Check.
func (t Token) Reveal() string {
	if t.Check() != nil {
		return ""
	}
	b := []byte{0, byte(len(t.ID))}
	b = append(b, t.ID...)
	b = append(b, t.Secret[:]...)
	b = append(b, t.Fingerprint[:]...)
	b = append(b, byte(len(t.URLs)))
	for _, u := range t.URLs {
		scheme, host, _ := strings.Cut(u, "://")
		var secure byte
		if scheme == "https" {
			secure = 1
		}
		b = append(b, secure, byte(len(host)))
		b = append(b, host...)
	}
	for (len(b)+checksumSize)%groupBytes != 0 {
		b = append(b, 0)
	}
	b[0] = byte((len(b) + checksumSize) / groupBytes)
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	text := tokenBase32.EncodeToString(b)
	var s strings.Builder
	s.WriteString(tokenPrefix)
	s.WriteByte(tokenVersion)
	for i := 0; i < len(text); i += groupChars {
		s.WriteByte('-')
		s.WriteString(text[i : i+groupChars])
	}
	return s.String()
}

// ParseToken reads the text of a token. Case, white space and dashes do not matter, nor o for 0 or i and l for 1. The error says in which
// group a single mistake is; it never contains a part of the token.
func ParseToken(s string) (Token, error) {
	if len(s) > maxTokenText {
		return Token{}, fmt.Errorf("%w: it has %d characters", ErrTokenForeign, len(s))
	}
	text := normalizeToken(s)
	body, ok := strings.CutPrefix(text, tokenPrefix)
	if !ok || body == "" {
		return Token{}, fmt.Errorf("%w: one starts with %s%c-; perhaps its beginning was not copied", ErrTokenForeign, tokenPrefix, tokenVersion)
	}
	if body[0] != tokenVersion {
		return Token{}, fmt.Errorf("%w, or the first group has a typing error: this build reads tokens that start with %s%c-", ErrTokenNewer,
			tokenPrefix, tokenVersion)
	}
	symbols, err := tokenSymbols(body[1:])
	if err != nil {
		return Token{}, err
	}
	b, ok := joinSymbols(symbols)
	if !ok {
		return Token{}, diagnoseToken(symbols)
	}
	return decodeToken(b[:len(b)-checksumSize])
}

// normalizeToken folds what people and programs change on the way: case, line breaks, kinds of dashes, invisible characters.
func normalizeToken(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r), unicode.Is(unicode.Pd, r), unicode.Is(unicode.Cf, r):
			return -1
		case r < unicode.MaxASCII:
			r = unicode.ToLower(r)
		}
		switch r {
		case 'o':
			return '0'
		case 'i', 'l':
			return '1'
		}
		return r
	}, s)
}

func tokenSymbols(s string) ([]byte, error) {
	symbols := make([]byte, 0, len(s))
	for _, r := range s {
		v := -1
		if r < unicode.MaxASCII {
			v = strings.IndexByte(tokenAlphabet, byte(r))
		}
		if v < 0 {
			return nil, fmt.Errorf("%w: %s is a character that no token has", ErrTokenTypo, place(len(symbols)))
		}
		symbols = append(symbols, byte(v))
	}
	return symbols, nil
}

// place names a character by group and position, both from one.
func place(i int) string {
	return fmt.Sprintf("character %d of group %d after enr1", i%groupChars+1, i/groupChars+1)
}

// joinSymbols returns the bytes behind the symbols if length and checksum fit.
func joinSymbols(symbols []byte) ([]byte, bool) {
	b, syndrome, ok := packSymbols(symbols)
	return b, ok && syndrome == 0 && declaredBytes(symbols) == len(b)
}

// packSymbols returns the bytes behind whole groups of symbols, and what is between the checksum they should have and the one they have.
func packSymbols(symbols []byte) (b []byte, syndrome uint32, ok bool) {
	n := len(symbols) / groupChars * groupBytes
	if len(symbols)%groupChars != 0 || n == 0 || n > maxTokenBytes {
		return nil, 0, false
	}
	b = make([]byte, 0, n)
	for g := 0; g < len(symbols); g += groupChars {
		var v uint64
		for _, s := range symbols[g : g+groupChars] {
			v = v<<5 | uint64(s)
		}
		b = append(b, byte(v>>32), byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
	}
	return b, crc32.Checksum(b[:n-checksumSize], castagnoli) ^ binary.BigEndian.Uint32(b[n-checksumSize:]), true
}

// declaredBytes is the length that the first byte tells, 0 if it is not there.
func declaredBytes(symbols []byte) int {
	if len(symbols) < 2 {
		return 0
	}
	return int(symbols[0]<<3|symbols[1]>>2) * groupBytes
}

// decodeToken reads what the checksum has found whole.
func decodeToken(b []byte) (Token, error) {
	r := reader{b: b[1:]}
	t := Token{ID: string(r.take(int(r.byte())))}
	copy(t.Secret[:], r.take(SecretSize))
	copy(t.Fingerprint[:], r.take(FingerprintSize))
	n := int(r.byte())
	for range min(n, MaxTokenURLs) {
		scheme := "http://"
		switch r.byte() {
		case 0:
		case 1:
			scheme = "https://"
		default:
			r.bad = true
		}
		t.URLs = append(t.URLs, scheme+string(r.take(int(r.byte()))))
	}
	for _, z := range r.b {
		r.bad = r.bad || z != 0
	}
	if r.bad || len(r.b) >= groupBytes || t.Check() != nil {
		return Token{}, fmt.Errorf("%w: its content makes no sense", ErrTokenForeign)
	}
	return t, nil
}

// reader takes bytes from a slice and remembers when there were too few.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if n > len(r.b) {
		r.bad, r.b = true, nil
		return nil
	}
	p := r.b[:n]
	r.b = r.b[n:]
	return p
}

func (r *reader) byte() byte {
	if p := r.take(1); len(p) == 1 {
		return p[0]
	}
	return 0
}
