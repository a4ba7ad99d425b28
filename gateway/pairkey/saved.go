package pairkey

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"time"

	"github.com/towpath/towpath/tunnel/wgkey"
)

// Key is a preshared key that both ends of a pair have, or will have.
type Key struct {
	// Epoch is from 1 on; the zero value is no key.
	Epoch  uint64
	Secret wgkey.PresharedKey
	Made   time.Time
}

func (k Key) isZero() bool { return k.Epoch == 0 }

// Saved is what a pair has on the disk.
type Saved struct {
	// Current is the newest key that both ends have confirmed, Previous the one before.
	Current, Previous Key
	// Doubt is one that a taker has confirmed, without knowing whether the maker has heard it.
	Doubt Key
}

const savedFormat = 1

type savedJSON struct {
	Format   int      `json:"format"`
	Current  *keyJSON `json:"current,omitempty"`
	Previous *keyJSON `json:"previous,omitempty"`
	Doubt    *keyJSON `json:"doubt,omitempty"`
}

type keyJSON struct {
	Epoch  uint64    `json:"epoch"`
	Secret []byte    `json:"secret"`
	Made   time.Time `json:"made"`
}

// Reveal returns s with its keys, to be sealed and written.
func (s Saved) Reveal() ([]byte, error) {
	out := func(k Key) *keyJSON {
		if k.isZero() {
			return nil
		}
		secret := k.Secret.RevealBytes()
		return &keyJSON{k.Epoch, secret[:], k.Made.UTC()}
	}
	return json.Marshal(savedJSON{savedFormat, out(s.Current), out(s.Previous), out(s.Doubt)})
}

// ParseSaved reads what Reveal gave. Its error does not quote it.
func ParseSaved(b []byte) (Saved, error) {
	damaged := errors.New("the saved preshared keys of a pair are damaged or of a newer build")
	var j savedJSON
	if json.Unmarshal(b, &j) != nil || j.Format != savedFormat {
		return Saved{}, damaged
	}
	var s Saved
	for _, x := range []struct {
		from *keyJSON
		to   *Key
	}{{j.Current, &s.Current}, {j.Previous, &s.Previous}, {j.Doubt, &s.Doubt}} {
		if x.from == nil {
			continue
		}
		if x.from.Epoch == 0 || x.from.Epoch > maxEpoch || len(x.from.Secret) != wgkey.Size {
			return Saved{}, damaged
		}
		*x.to = Key{x.from.Epoch, wgkey.PresharedKeyOf([wgkey.Size]byte(x.from.Secret)), x.from.Made}
	}
	return s, nil
}

// spread is a pair's own part of renewSpread.
func spread(a, b string) time.Duration {
	sum := sha256.Sum256([]byte(a + "\x00" + b))
	return time.Duration(binary.BigEndian.Uint32(sum[:4])) * (renewSpread / (1 << 32))
}
