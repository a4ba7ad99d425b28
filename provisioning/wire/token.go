package wire

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// Errors of ParseToken that callers match. None of them ever contains a part of the token.
var (
	// ErrTokenForeign means that the text is something else than a token.
	ErrTokenForeign = errors.New("this is not an enrolment token")
	// ErrTokenNewer means that the token has a version this build does not know.
	ErrTokenNewer = errors.New("this token was made by newer software")
	// ErrTokenTruncated means that the end is missing.
	ErrTokenTruncated = errors.New("the token is not complete")
	// ErrTokenTypo means that the checksum does not fit.
	ErrTokenTypo = errors.New("there is a typing error in the token")
)

// Limits of a Token.
const (
	// SecretSize is the length of the secret in bytes.
	SecretSize = 16
	// MaxTokenURLs is how many coordinator addresses one Token carries.
	MaxTokenURLs = 8
	maxTokenID   = 40
	maxTokenURL  = 200
)

// Secret is the secret of a Token. It prints as "(secret)" everywhere; Secret[:] are its bytes.
type Secret [SecretSize]byte

// NewSecret draws a Secret from the system's randomness.
func NewSecret() Secret {
	var s Secret
	rand.Read(s[:]) // never fails: crypto/rand
	return s
}

// String hides the secret.
func (s Secret) String() string { return "(secret)" }

// Format hides the secret from every verb of fmt.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// LogValue hides the secret from slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText refuses, so that no encoder can write the secret by accident.
func (s Secret) MarshalText() ([]byte, error) {
	return nil, errors.New("a secret is never encoded: use Token.Reveal")
}

// Token is what an operator hands to a box: where the coordinator is, how to know it, and the right to enroll once.
type Token struct {
	// ID names the token at the coordinator; it is no secret.
	ID          string
	Secret      Secret
	Fingerprint Fingerprint
	// URLs are the coordinator's addresses, tried in order: "http://" or "https://", a name or an IP address, and perhaps a port.
	URLs []string
}

// String describes the token without its secret.
func (t Token) String() string { return "token " + t.ID + " of " + strings.Join(t.URLs, ", ") }

// GoString hides the secret from %#v.
func (t Token) GoString() string { return t.String() }

// LogValue hides the secret from slog.
func (t Token) LogValue() slog.Value { return slog.StringValue(t.String()) }

// Check says why a Token cannot be written as text.
func (t Token) Check() error {
	if t.ID == "" || len(t.ID) > maxTokenID {
		return fmt.Errorf("the id of a token has 1 to %d characters, not %d", maxTokenID, len(t.ID))
	}
	for _, r := range []byte(t.ID) {
		if r <= ' ' || r > '~' {
			return errors.New("the id of a token is printable ASCII")
		}
	}
	if len(t.URLs) == 0 || len(t.URLs) > MaxTokenURLs {
		return fmt.Errorf("a token carries 1 to %d coordinator addresses, not %d", MaxTokenURLs, len(t.URLs))
	}
	size := 0
	for _, u := range t.URLs {
		if err := CheckURL(u); err != nil {
			return err
		}
		size += len(u)
	}
	if limit := maxTokenBytes - 128; size > limit {
		return fmt.Errorf("the coordinator's addresses have %d characters together and a token has room for %d", size, limit)
	}
	return nil
}

// CheckURL says why s cannot be the address of a coordinator: "http://" or "https://", a name or an IP address, perhaps a port, nothing
// else.
func CheckURL(s string) error {
	if len(s) > maxTokenURL {
		return fmt.Errorf("the address of a coordinator has at most %d characters, not %d", maxTokenURL, len(s))
	}
	u, err := url.Parse(s)
	if err != nil {
		return fmt.Errorf("%q is not an address: %w", s, err)
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		return fmt.Errorf("%q must start with http:// or https://", s)
	}
	if s != u.Scheme+"://"+u.Host {
		return fmt.Errorf("%q must be only a name or an IP address and perhaps a port", s)
	}
	if p := u.Port(); p != "" {
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
			return fmt.Errorf("%q has an impossible port", s)
		}
	} else if strings.HasSuffix(u.Host, ":") {
		return fmt.Errorf("%q has an empty port", s)
	}
	host := u.Hostname()
	if a, err := netip.ParseAddr(host); err == nil {
		if a.Zone() != "" || a.IsUnspecified() {
			return fmt.Errorf("%q cannot be reached from another machine", s)
		}
		return nil
	}
	return checkHostname(s, host)
}

// checkHostname accepts the letters, digits and hyphens of RFC 1123 §2.1.
func checkHostname(s, host string) error {
	if host == "" {
		return fmt.Errorf("%q has no host", s)
	}
	if strings.ContainsRune(host, ':') {
		return fmt.Errorf("%q has a malformed IPv6 address", s)
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return fmt.Errorf("%q has a malformed host name", s)
		}
		for _, c := range []byte(label) {
			if c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
				return fmt.Errorf("%q has a host name with other characters than letters, digits and hyphens", s)
			}
		}
	}
	return nil
}
