package provisioning

import (
	"crypto/rand"
	"encoding/base32"
	"strings"
)

// Prefixes of the ids.
const (
	sitePrefix    = "site_"
	nodePrefix    = "node_"
	tokenPrefix   = "tok_"
	servicePrefix = "svc_"
)

// idLength is the number of letters after the prefix: 80 bits.
const idLength = 16

// idLetters is RFC 4648 §6 in lower case.
const idLetters = "abcdefghijklmnopqrstuvwxyz234567"

// NewSiteID makes a random id of 80 bits, as the others do.
func NewSiteID() SiteID { return SiteID(newID(sitePrefix)) }

// NewNodeID makes a random id.
func NewNodeID() NodeID { return NodeID(newID(nodePrefix)) }

// NewTokenID makes a random id. It names a Token and is not its secret.
func NewTokenID() TokenID { return TokenID(newID(tokenPrefix)) }

// NewServiceID makes a random id.
func NewServiceID() ServiceID { return ServiceID(newID(servicePrefix)) }

func newID(prefix string) string {
	var b [idLength * 5 / 8]byte
	// It never fails: the program ends when the system has no randomness.
	_, _ = rand.Read(b[:])
	return prefix + base32.NewEncoding(idLetters).WithPadding(base32.NoPadding).EncodeToString(b[:])
}

// Validate checks the form of the id.
func (id SiteID) Validate() error { return checkID("site", sitePrefix, string(id)) }

// Validate checks the form of the id.
func (id NodeID) Validate() error { return checkID("node", nodePrefix, string(id)) }

// Validate checks the form of the id.
func (id TokenID) Validate() error { return checkID("token", tokenPrefix, string(id)) }

// Validate checks the form of the id.
func (id ServiceID) Validate() error { return checkID("service", servicePrefix, string(id)) }

func checkID(noun, prefix, id string) error {
	rest, ok := strings.CutPrefix(id, prefix)
	if ok && len(rest) == idLength && strings.Trim(rest, idLetters) == "" {
		return nil
	}
	e := Errorf(Invalid, "%q is not the id of a %s", clipped(id), noun)
	for _, other := range []struct{ noun, prefix string }{
		{"site", sitePrefix}, {"node", nodePrefix}, {"token", tokenPrefix}, {"service", servicePrefix},
	} {
		if other.prefix != prefix && strings.HasPrefix(id, other.prefix) {
			return e.WithHint("this is the id of a %s, one of a %s begins with %q", other.noun, noun, prefix)
		}
	}
	return e.WithHint("it begins with %q and has %d letters and digits after it", prefix, idLength)
}
