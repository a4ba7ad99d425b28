package wire_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

func seedKey(seed byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
}

func publicOf(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

func networks(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range list {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

func sampleMember(network ed25519.PrivateKey) wire.Member {
	return wire.Member{
		Network: wire.NetworkID(publicOf(network)), Node: "node_a", Kind: wire.Gateway, Site: "nord", SiteKind: wire.Clinic,
		PublicKey: wgkey.PublicKey{1}, NextKey: wgkey.PublicKey{2}, Prefixes: networks("10.201.1.0/28", "10.201.9.0/24"),
	}
}

func TestMemberTravelsSigned(t *testing.T) {
	key := seedKey(1)
	want := sampleMember(key)
	s, err := want.Sign(key)
	if err != nil {
		t.Fatal(err)
	}
	got, err := travel(t, s).Open(publicOf(key))
	if d := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Prefix{})); err != nil || d != "" {
		t.Errorf("%v: -signed +opened:\n%s", err, d)
	}
	if !got.Has(wgkey.PublicKey{1}) || !got.Has(wgkey.PublicKey{2}) || got.Has(wgkey.PublicKey{3}) || got.Has(wgkey.PublicKey{}) {
		t.Error("it has other keys than those signed")
	}
	for text, want := range map[string]bool{
		"10.201.1.0/28": true, "10.201.1.7/32": true, "10.201.9.128/25": true, "10.201.1.0/27": false, "10.201.2.1/32": false, "0.0.0.0/0": false, "::/0": false,
	} {
		if got.Covers(netip.MustParsePrefix(text)) != want {
			t.Errorf("%s: covered is not %v", text, want)
		}
	}
	if got.Covers(netip.Prefix{}) {
		t.Error("no prefix is covered")
	}
	if _, err := s.Open(publicOf(seedKey(2))); !errors.Is(err, wire.ErrSignature) {
		t.Errorf("another network: %v", err)
	}
	if _, err := s.Open(nil); !errors.Is(err, wire.ErrSignature) {
		t.Errorf("no key: %v", err)
	}
}

func TestUnsoundMembersAreNeitherSignedNorOpened(t *testing.T) {
	key := seedKey(1)
	for name, spoil := range map[string]func(*wire.Member){
		"no network":         func(m *wire.Member) { m.Network = "" },
		"another network":    func(m *wire.Member) { m.Network = wire.NetworkID(publicOf(seedKey(2))) },
		"no node":            func(m *wire.Member) { m.Node = "" },
		"no site":            func(m *wire.Member) { m.Site = "" },
		"no kind":            func(m *wire.Member) { m.Kind = "" },
		"another kind":       func(m *wire.Member) { m.Kind = "hub" },
		"no site kind":       func(m *wire.Member) { m.SiteKind = "" },
		"no key":             func(m *wire.Member) { m.PublicKey = wgkey.PublicKey{} },
		"one key twice":      func(m *wire.Member) { m.NextKey = m.PublicKey },
		"a prefix with host": func(m *wire.Member) { m.Prefixes = networks("10.201.1.1/28") },
		"no prefix":          func(m *wire.Member) { m.Prefixes = []netip.Prefix{{}} },
		"a mapped prefix":    func(m *wire.Member) { m.Prefixes = networks("::ffff:10.0.0.0/104") },
		"no order":           func(m *wire.Member) { m.Prefixes = networks("10.2.0.0/16", "10.1.0.0/16") },
		"the same twice":     func(m *wire.Member) { m.Prefixes = networks("10.1.0.0/16", "10.1.0.0/16") },
		"too many":           func(m *wire.Member) { m.Prefixes = make([]netip.Prefix, wire.MaxMemberPrefixes+1) },
	} {
		m := sampleMember(key)
		spoil(&m)
		if _, err := m.Sign(key); err == nil {
			t.Errorf("%s: it was signed", name)
		}
		p, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		s := wire.SignedMember{Payload: p, Signature: ed25519.Sign(key, append([]byte("member v1\x00"), p...))}
		if _, err := s.Open(publicOf(key)); !errors.Is(err, wire.ErrSignature) {
			t.Errorf("%s: opened with %v", name, err)
		}
	}
}

func TestDelegation(t *testing.T) {
	network, mapKey, stranger := seedKey(1), seedKey(2), seedKey(3)
	good := wire.Delegate(network, publicOf(mapKey))
	m := wire.NetMap{Format: wire.Format, Network: wire.NetworkID(publicOf(network)), Generation: 5}
	sign := func(m wire.NetMap, by ed25519.PrivateKey, d *wire.Delegation) wire.Signed {
		s := encode(t, m).Sign(by)
		s.Delegation = d
		return travel(t, s)
	}
	if got, err := sign(m, mapKey, &good).Open(publicOf(network)); err != nil || !got.Delegated {
		t.Fatalf("a delegated map: %+v, %v", got, err)
	}
	if got, err := sign(m, network, nil).Open(publicOf(network)); err != nil || got.Delegated {
		t.Fatalf("a map of the network's own key: %+v, %v", got, err)
	}
	foreign := wire.Delegate(stranger, publicOf(mapKey))
	swapped := wire.Delegation{Key: publicOf(stranger), Signature: good.Signature}
	// The signature of a Member or a map must not pass for that of a Delegation.
	for name, s := range map[string]wire.Signed{
		"without the delegation":     sign(m, mapKey, nil),
		"by another key":             sign(m, stranger, &good),
		"by the network's own key":   sign(m, network, &good),
		"with a stranger's right":    sign(m, mapKey, &foreign),
		"with a right to another":    sign(m, stranger, &swapped),
		"with no right":              sign(m, mapKey, &wire.Delegation{}),
		"with a key that is too big": sign(m, mapKey, &wire.Delegation{Key: append(publicOf(mapKey)[:32:32], 0), Signature: good.Signature}),
		"with a signature for maps":  sign(m, mapKey, &wire.Delegation{Key: publicOf(mapKey), Signature: ed25519.Sign(network, append([]byte("netmap v1\x00"), publicOf(mapKey)...))}),
	} {
		if _, err := s.Open(publicOf(network)); !errors.Is(err, wire.ErrSignature) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// A change carries the right of the key that signed the new map.
func TestDelegatedChange(t *testing.T) {
	network, mapKey := seedKey(1), seedKey(2)
	d := wire.Delegate(network, publicOf(mapKey))
	old := wire.NetMap{Format: wire.Format, Network: wire.NetworkID(publicOf(network)), Generation: 5}
	to := old
	to.Generation, to.Peers = 6, []wire.Peer{{Node: "node_b"}}
	s := encode(t, to).Sign(mapKey)
	s.Delegation = &d
	base := encode(t, old).Hash
	c, err := s.Since(base, old, to)
	if err != nil {
		t.Fatal(err)
	}
	m, stored, err := travel(t, c).Open(publicOf(network), old, base)
	if err != nil || !m.Delegated || stored.Delegation == nil {
		t.Fatalf("%+v, %+v, %v", m, stored, err)
	}
	if again, err := stored.Open(publicOf(network)); err != nil || !again.Delegated {
		t.Errorf("what is stored cannot be opened again: %v", err)
	}
	c.Delegation = nil
	if _, _, err := c.Open(publicOf(network), old, base); !errors.Is(err, wire.ErrSignature) {
		t.Errorf("without the delegation: %v", err)
	}
}

func FuzzOpenMember(f *testing.F) {
	key := seedKey(1)
	good, err := sampleMember(key).Sign(key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good.Payload, good.Signature, false)
	f.Add([]byte(`{"network":"x"}`), []byte{}, true)
	f.Add(good.Payload, []byte{}, true)
	f.Fuzz(func(t *testing.T, payload, signature []byte, signed bool) {
		if signed { // as if the offline key had signed it
			signature = ed25519.Sign(key, append([]byte("member v1\x00"), payload...))
		}
		m, err := wire.SignedMember{Payload: payload, Signature: signature}.Open(publicOf(key))
		if err != nil {
			if !errors.Is(err, wire.ErrSignature) {
				t.Fatalf("%v is no %v", err, wire.ErrSignature)
			}
			return
		}
		if m.Check() != nil || m.Network != wire.NetworkID(publicOf(key)) || !signed && !bytes.Equal(payload, good.Payload) {
			t.Fatalf("opened %+v", m)
		}
	})
}
