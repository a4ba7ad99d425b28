package wire

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// ErrOlder means that a map is older than the one that the Node has.
var ErrOlder = errors.New("the NetMap is older than the one this box has")

// Have is what a Node says of its map when it begins to watch.
type Have struct {
	// Generation is the newest that the map is true for; 0 asks for the whole map.
	Generation uint64
	// Hash is the content of the map. A Node that does not tell it is believed to have the map of Generation.
	Hash ContentHash
	// Diffs says that the Node takes a Change for a map, and compares Frame.Hash with what it has.
	Diffs bool
	// Instance is drawn at random by each start of a Node's process, 1 to MaxInstance characters of printable ASCII without spaces: one that comes back
	// after another was there means that two boxes have the same key. Empty if it is not told.
	Instance string
}

// MaxInstance is the length of Have.Instance.
const MaxInstance = 32

// Query is h as the query of PathWatch: have, hash, diff and instance.
func (h Have) Query() string {
	q := url.Values{"have": {strconv.FormatUint(h.Generation, 10)}}
	if !h.Hash.IsZero() {
		q.Set("hash", h.Hash.String())
	}
	if h.Diffs {
		q.Set("diff", "1")
	}
	if h.Instance != "" {
		q.Set("instance", h.Instance)
	}
	return q.Encode()
}

// ParseHave reads the query of PathWatch. What is missing is not told.
func ParseHave(q url.Values) (Have, error) {
	var h Have
	if s := q.Get("have"); s != "" {
		var err error
		if h.Generation, err = strconv.ParseUint(s, 10, 64); err != nil {
			return Have{}, errors.New("have is not a generation")
		}
	}
	if s := q.Get("hash"); s != "" {
		if err := h.Hash.UnmarshalText([]byte(s)); err != nil {
			return Have{}, fmt.Errorf("hash is not that of a map: %w", err)
		}
	}
	h.Diffs = q.Get("diff") == "1"
	h.Instance = q.Get("instance")
	if len(h.Instance) > MaxInstance || strings.ContainsFunc(h.Instance, func(r rune) bool { return r < '!' || r > '~' }) {
		return Have{}, fmt.Errorf("instance is not 1 to %d characters of printable ASCII", MaxInstance)
	}
	return h, nil
}

// Held is the map that a Node has.
type Held struct {
	NetMap NetMap
	Hash   ContentHash
	// Generation is the newest that the map is true for.
	Generation uint64
}

// Have is what a Node that takes a Change says of h.
func (h Held) Have() Have { return Have{Generation: h.Generation, Hash: h.Hash, Diffs: true} }

// NewHeld is what a Node has that has stored m.
func NewHeld(m NetMap) (Held, error) {
	e, err := Encode(m)
	return Held{NetMap: m, Hash: e.Hash, Generation: m.Generation}, err
}

// Take returns what a Node has after f, and the map to be stored if there is a new one. Before it acts on a new map, the Node checks that
// it is its own. Errors are ErrMisfit, ErrOlder and those of Signed.Open; then the Node keeps what it has and ends the stream.
func (h Held) Take(key ed25519.PublicKey, f Frame) (Held, *Signed, error) {
	if f.NetMap == nil && f.Change == nil {
		return h.confirm(f)
	}
	var m NetMap
	var s Signed
	var err error
	if f.NetMap != nil {
		s = *f.NetMap
		m, err = s.Open(key)
	} else {
		m, s, err = f.Change.Open(key, h.NetMap, h.Hash)
	}
	if err != nil {
		return h, nil, err
	}
	if m.Generation < h.NetMap.Generation {
		return h, nil, fmt.Errorf("%w: generation %d and not %d", ErrOlder, m.Generation, h.NetMap.Generation)
	}
	next := Held{NetMap: m, Hash: s.Hash(), Generation: max(m.Generation, f.Generation)}
	if !f.Hash.IsZero() && f.Hash != next.Hash {
		return h, nil, fmt.Errorf("%w: the map of generation %d is not what was announced", ErrMisfit, m.Generation)
	}
	return next, &s, nil
}

// confirm takes a Frame without a map. One that was overtaken says nothing.
func (h Held) confirm(f Frame) (Held, *Signed, error) {
	if f.Generation < h.Generation {
		return h, nil, nil
	}
	if !f.Hash.IsZero() && f.Hash != h.Hash {
		return h, nil, fmt.Errorf("%w: at generation %d another map is due", ErrMisfit, f.Generation)
	}
	h.Generation = f.Generation
	return h, nil, nil
}

// Beat is one line of what a Node says on the stream while it watches: at once, when something of it changes, and after HeartbeatEvery.
// Who watches by POST sends Beats as the body; three that are missing end the stream.
type Beat struct {
	// Applied is the generation the Node has made true; ApplyError is why a newer one is not.
	Applied    uint64 `json:"applied"`
	ApplyError string `json:"apply_error,omitempty"`
}

// MaxBeat is the size of one line of Beats, in bytes. A reader refuses a longer one.
const MaxBeat = 16 << 10
