package wire_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hpke"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

type coordinatorKeys struct {
	enroll  hpke.PrivateKey
	network ed25519.PrivateKey
}

func (k coordinatorKeys) identity() wire.Identity {
	return wire.Identity{HPKE: k.enroll.PublicKey().Bytes(), Network: k.network.Public().(ed25519.PublicKey)}
}

func newKeys(seed byte) coordinatorKeys {
	enroll, err := wire.KEM().DeriveKeyPair(bytes.Repeat([]byte{seed}, 32))
	if err != nil {
		panic(err)
	}
	return coordinatorKeys{enroll, ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))}
}

// testKeys are made once, because a key pair takes long to make under the race detector.
var testKeys = sync.OnceValue(func() [2]coordinatorKeys { return [2]coordinatorKeys{newKeys(1), newKeys(2)} })

func sampleRequest() wire.EnrollRequest {
	k := sampleToken()
	return wire.EnrollRequest{
		Format: wire.Format, TokenID: k.ID, Secret: k.Secret[:], PublicKey: wgkey.PublicKey{1, 2, 3},
		Now:   time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC),
		Facts: wire.Facts{Hostname: "box", Serial: "S1", LANs: []netip.Prefix{netip.MustParsePrefix("192.168.178.0/24")}},
	}
}

func sampleResponse() wire.EnrollResponse {
	return wire.EnrollResponse{
		NetMap: &wire.Signed{Payload: []byte(`{"format":1}`), Signature: []byte("sig")}, Now: time.Date(2026, 11, 22, 12, 0, 1, 0, time.UTC),
	}
}

func TestSealedExchange(t *testing.T) {
	keys := testKeys()[0]
	body, opener, err := wire.SealRequest(keys.identity(), sampleRequest())
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(body, []byte("tok_")) || bytes.Contains(body, []byte("box")) {
		t.Error("the request can be read on the way")
	}
	req, sealer, err := wire.OpenRequest(keys.enroll, body)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(sampleRequest(), req, cmpopts.EquateComparable(netip.Prefix{})); d != "" {
		t.Errorf("request: -sent +opened:\n%s", d)
	}
	first, err := sealer.Seal(sampleResponse())
	if err != nil {
		t.Fatal(err)
	}
	second, err := sealer.Seal(sampleResponse())
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(first, second) {
		t.Error("two answers are the same bytes: the key stream was used twice")
	}
	for _, sealed := range [][]byte{first, second} {
		if bytes.Contains(sealed, []byte("format")) {
			t.Error("the answer can be read on the way")
		}
		res, err := opener.Open(sealed)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(sampleResponse(), res); d != "" {
			t.Errorf("answer: -sent +opened:\n%s", d)
		}
	}
}

// every tries a change at every position that matters: all of the short parts, and a sample of the long encapsulated key.
func every(t *testing.T, body []byte, try func(changed []byte) error) {
	t.Helper()
	for i := range body {
		if i > 64 && i < len(body)-200 && i%29 != 0 {
			continue
		}
		changed := bytes.Clone(body)
		changed[i] ^= 1 << (i % 8)
		if err := try(changed); !errors.Is(err, wire.ErrSealed) {
			t.Fatalf("byte %d changed: got %v, want %v", i, err, wire.ErrSealed)
		}
	}
	for _, n := range []int{0, 1, 100, len(body) - 1} {
		if err := try(body[:n]); !errors.Is(err, wire.ErrSealed) {
			t.Fatalf("cut to %d bytes: got %v, want %v", n, err, wire.ErrSealed)
		}
	}
	if err := try(append(bytes.Clone(body), 0)); !errors.Is(err, wire.ErrSealed) {
		t.Fatalf("one byte more: got %v, want %v", err, wire.ErrSealed)
	}
}

func TestSealedRequestRefusesChanges(t *testing.T) {
	keys := testKeys()
	body, _, err := wire.SealRequest(keys[0].identity(), sampleRequest())
	if err != nil {
		t.Fatal(err)
	}
	every(t, body, func(changed []byte) error {
		_, sealer, err := wire.OpenRequest(keys[0].enroll, changed)
		if sealer != nil {
			t.Error("a changed request can be answered")
		}
		return err
	})
	if _, _, err := wire.OpenRequest(keys[1].enroll, body); !errors.Is(err, wire.ErrSealed) {
		t.Errorf("another coordinator: got %v, want %v", err, wire.ErrSealed)
	}
	if _, _, err := wire.OpenRequest(keys[0].enroll, make([]byte, wire.MaxEnrollBody+1)); !errors.Is(err, wire.ErrSealed) {
		t.Errorf("too long: got %v, want %v", err, wire.ErrSealed)
	}
}

func TestSealedResponseRefusesChangesAndReplays(t *testing.T) {
	keys := testKeys()[0]
	body, opener, err := wire.SealRequest(keys.identity(), sampleRequest())
	if err != nil {
		t.Fatal(err)
	}
	_, sealer, err := wire.OpenRequest(keys.enroll, body)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := sealer.Seal(sampleResponse())
	if err != nil {
		t.Fatal(err)
	}
	every(t, sealed, func(changed []byte) error {
		_, err := opener.Open(changed)
		return err
	})
	_, other, err := wire.SealRequest(keys.identity(), sampleRequest())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Open(sealed); !errors.Is(err, wire.ErrSealed) {
		t.Errorf("the answer to another request: got %v, want %v", err, wire.ErrSealed)
	}
}

func TestSealedSizesAreBounded(t *testing.T) {
	keys := testKeys()[0]
	big := sampleRequest()
	big.Facts.Model = strings.Repeat("x", wire.MaxEnrollBody)
	if _, _, err := wire.SealRequest(keys.identity(), big); err == nil {
		t.Error("a request above the limit was sealed")
	}
	body, _, err := wire.SealRequest(keys.identity(), sampleRequest())
	if err != nil {
		t.Fatal(err)
	}
	_, sealer, err := wire.OpenRequest(keys.enroll, body)
	if err != nil {
		t.Fatal(err)
	}
	res := sampleResponse()
	res.NetMap.Payload = make([]byte, wire.MaxEnrollResponse)
	if _, err := sealer.Seal(res); err == nil {
		t.Error("an answer above the limit was sealed")
	}
	if _, _, err := wire.SealRequest(wire.Identity{HPKE: []byte("short")}, sampleRequest()); err == nil {
		t.Error("a request was sealed to no key")
	}
}

func TestIdentityIsPinned(t *testing.T) {
	keys := testKeys()
	id := keys[0].identity()
	pinned := id.Fingerprint()
	if err := id.Verify(pinned); err != nil {
		t.Errorf("the true identity: %v", err)
	}
	swapped := wire.Identity{HPKE: id.HPKE, Network: keys[1].identity().Network}
	for name, other := range map[string]wire.Identity{
		"another coordinator": keys[1].identity(),
		"another network key": swapped,
		"nothing":             {},
		"a moved boundary":    {HPKE: append(bytes.Clone(id.HPKE), id.Network[0]), Network: id.Network[1:]},
	} {
		if err := other.Verify(pinned); !errors.Is(err, wire.ErrIdentity) {
			t.Errorf("%s: got %v, want %v", name, err, wire.ErrIdentity)
		}
		if other.Fingerprint() == pinned {
			t.Errorf("%s: it has the same fingerprint", name)
		}
	}
	useless := wire.Identity{HPKE: []byte("no key"), Network: id.Network}
	if err := useless.Verify(useless.Fingerprint()); !errors.Is(err, wire.ErrIdentity) {
		t.Errorf("keys that cannot be used: got %v, want %v", err, wire.ErrIdentity)
	}
}

func TestEnrollRequestNeverPrints(t *testing.T) {
	req := sampleRequest()
	out := fmt.Sprintf("%v %+v %#v %s", req, req, req, req)
	if strings.Contains(out, fmt.Sprintf("%x", req.Secret[:3])) || strings.Contains(out, fmt.Sprint(req.Secret[0], " ", req.Secret[1])) {
		t.Errorf("the secret is printed: %s", out)
	}
}

func FuzzOpenRequest(f *testing.F) {
	keys := testKeys()[0]
	body, _, err := wire.SealRequest(keys.identity(), sampleRequest())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body)
	f.Add(body[:1200])
	f.Add([]byte{1})
	f.Add(bytes.Repeat([]byte{1}, 1400))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, _, err := wire.OpenRequest(keys.enroll, b); err != nil && !errors.Is(err, wire.ErrSealed) {
			t.Fatalf("%v is no %v", err, wire.ErrSealed)
		}
	})
}

func FuzzOpenResponse(f *testing.F) {
	keys := testKeys()[0]
	body, opener, err := wire.SealRequest(keys.identity(), sampleRequest())
	if err != nil {
		f.Fatal(err)
	}
	_, sealer, err := wire.OpenRequest(keys.enroll, body)
	if err != nil {
		f.Fatal(err)
	}
	good, err := sealer.Seal(sampleResponse())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:40])
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := opener.Open(b); (err == nil) != bytes.Equal(b, good) || err != nil && !errors.Is(err, wire.ErrSealed) {
			t.Fatalf("got %v", err)
		}
	})
}
