package wire_test

import (
	"crypto/ed25519"
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/towpath/towpath/provisioning/wire"
)

func TestHaveTravelsAsAQuery(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := wire.Have{Generation: rapid.Uint64().Draw(t, "generation"), Diffs: rapid.Bool().Draw(t, "diffs")}
		want.Instance = rapid.StringMatching(`[!-~]{0,32}`).Draw(t, "instance")
		copy(want.Hash[:], rapid.SliceOfN(rapid.Byte(), 0, 32).Draw(t, "hash"))
		q, err := url.ParseQuery(want.Query())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := wire.ParseHave(q); err != nil || got != want {
			t.Fatalf("%s became %+v (%v), want %+v", want.Query(), got, err, want)
		}
	})
	for _, bad := range []string{"have=-1", "have=x", "hash=12", "hash=" + string(make([]byte, 64)), "instance=a+b", "instance=%C3%B6", "instance=" + strings.Repeat("x", wire.MaxInstance+1)} {
		q, err := url.ParseQuery(bad)
		if err != nil {
			t.Fatal(err)
		}
		if h, err := wire.ParseHave(q); err == nil {
			t.Errorf("%q is taken as %+v", bad, h)
		}
	}
	if h, err := wire.ParseHave(url.Values{"have": {"7"}}); err != nil || h != (wire.Have{Generation: 7}) {
		t.Errorf("a node that knows no changes: %+v (%v)", h, err)
	}
}

func TestTake(t *testing.T) {
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	_, stranger, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	m5 := center(3, 1)
	m5.Network, m5.Generation = wire.NetworkID(pub), 5
	m7 := travel(t, m5)
	m7.Generation, m7.Peers = 7, slices.Delete(m7.Peers, 0, 1)
	m4 := travel(t, m7)
	m4.Generation = 4
	h5, h7 := encode(t, m5).Hash, encode(t, m7).Hash
	whole := func(m wire.NetMap, key ed25519.PrivateKey) *wire.Signed {
		s := encode(t, m).Sign(key)
		return &s
	}
	change := func(m wire.NetMap, key ed25519.PrivateKey) *wire.Change {
		c, err := whole(m, key).Since(h5, m5, m)
		if err != nil {
			t.Fatal(err)
		}
		return &c
	}
	have, err := wire.NewHeld(m5)
	if err != nil {
		t.Fatal(err)
	}
	have.Generation = 6
	for name, tc := range map[string]struct {
		f wire.Frame
		// gen and stored are what comes of it, err why nothing does.
		gen    uint64
		stored bool
		err    error
	}{
		"a heartbeat":                        {wire.Frame{Generation: 6, Hash: h5}, 6, false, nil},
		"a heartbeat of an older build":      {wire.Frame{Generation: 6}, 6, false, nil},
		"news that change nothing here":      {wire.Frame{Generation: 8, Hash: h5}, 8, false, nil},
		"an overtaken frame":                 {wire.Frame{Generation: 5, Hash: h7}, 6, false, nil},
		"news after a map that was lost":     {wire.Frame{Generation: 7, Hash: h7}, 6, false, wire.ErrMisfit},
		"a whole map":                        {wire.Frame{Generation: 7, Hash: h7, NetMap: whole(m7, key)}, 7, true, nil},
		"a whole map true for more":          {wire.Frame{Generation: 9, NetMap: whole(m7, key)}, 9, true, nil},
		"a change":                           {wire.Frame{Generation: 7, Hash: h7, Change: change(m7, key)}, 7, true, nil},
		"a change that is not as announced":  {wire.Frame{Generation: 7, Hash: h5, Change: change(m7, key)}, 6, false, wire.ErrMisfit},
		"an old map":                         {wire.Frame{Generation: 7, NetMap: whole(m4, key)}, 6, false, wire.ErrOlder},
		"a change to an old map":             {wire.Frame{Generation: 7, Change: change(m4, key)}, 6, false, wire.ErrOlder},
		"a map by a stranger":                {wire.Frame{Generation: 7, NetMap: whole(m7, stranger)}, 6, false, wire.ErrSignature},
		"a change by a stranger":             {wire.Frame{Generation: 7, Change: change(m7, stranger)}, 6, false, wire.ErrSignature},
		"a change by a stranger is a misfit": {wire.Frame{Generation: 7, Change: change(m7, stranger)}, 6, false, wire.ErrMisfit},
	} {
		got, stored, err := have.Take(pub, travel(t, tc.f))
		if !errors.Is(err, tc.err) || (stored != nil) != tc.stored || got.Generation != tc.gen {
			t.Errorf("%s: generation %d, stored %v, %v; want %d, %v, %v", name, got.Generation, stored != nil, err, tc.gen, tc.stored, tc.err)
		}
		if !tc.stored {
			if got.Hash != h5 || len(got.NetMap.Peers) != 3 {
				t.Errorf("%s: the map was changed", name)
			}
			continue
		}
		if m, err := stored.Open(pub); err != nil || got.Hash != h7 || stored.Hash() != h7 || len(m.Peers) != 2 || len(got.NetMap.Peers) != 2 {
			t.Errorf("%s: stored %+v (%v)", name, m, err)
		}
	}
}
