package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// MaxSigning bounds the files that travel between the coordinator and the place of the offline key, in bytes.
const MaxSigning = 64 << 20

// maxSigningItems is how many Members one file holds.
const maxSigningItems = 50_000

// SigningRequest is what the coordinator asks the network's offline key to sign. It comes from a machine that is not trusted: whoever signs
// reads it first.
type SigningRequest struct {
	Format  int           `json:"format"`
	Network string        `json:"network"`
	Made    time.Time     `json:"made"`
	Items   []SigningItem `json:"items"`
}

// SigningItem is one Member, and what was signed of the same Node before; nil if nothing was.
type SigningItem struct {
	Member Member        `json:"member"`
	Last   *SignedMember `json:"last,omitempty"`
}

// SigningAnswer is what comes back.
type SigningAnswer struct {
	Format  int            `json:"format"`
	Network string         `json:"network"`
	Members []SignedMember `json:"members"`
}

// ParseSigningRequest decodes one and checks every Member in it; no Node is there twice.
func ParseSigningRequest(b []byte) (SigningRequest, error) {
	var r SigningRequest
	if err := parseSigning(b, &r); err != nil {
		return SigningRequest{}, err
	}
	if err := checkSigning(r.Format, r.Network, len(r.Items)); err != nil {
		return SigningRequest{}, err
	}
	seen := make(map[string]bool, len(r.Items))
	for _, i := range r.Items {
		switch err := i.Member.Check(); {
		case err != nil:
			return SigningRequest{}, fmt.Errorf("item %d, node %.64q: %w", len(seen)+1, i.Member.Node, err)
		case i.Member.Network != r.Network:
			return SigningRequest{}, fmt.Errorf("item %d is of network %s and the file of %s", len(seen)+1, i.Member.Network, r.Network)
		case seen[i.Member.Node]:
			return SigningRequest{}, fmt.Errorf("node %s is there twice", i.Member.Node)
		}
		seen[i.Member.Node] = true
	}
	return r, nil
}

// ParseSigningAnswer decodes one. The signatures are not looked at.
func ParseSigningAnswer(b []byte) (SigningAnswer, error) {
	var a SigningAnswer
	if err := parseSigning(b, &a); err != nil {
		return SigningAnswer{}, err
	}
	return a, checkSigning(a.Format, a.Network, len(a.Members))
}

func parseSigning(b []byte, into any) error {
	if len(b) > MaxSigning {
		return fmt.Errorf("it has more than %d bytes", MaxSigning)
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("it is no such file, or damaged: %w", err)
	}
	return nil
}

func checkSigning(format int, network string, items int) error {
	switch {
	case format < 1 || format > Format:
		return fmt.Errorf("it has format %d and this build knows 1 to %d", format, Format)
	case !plainName(network):
		return errors.New("it names no network")
	case items == 0 || items > maxSigningItems:
		return fmt.Errorf("it has %d members, and 1 to %d are possible", items, maxSigningItems)
	}
	return nil
}
