package control_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/gateway/control"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// falseCoordinator has the keys that the token pins, and answers as it likes.
func falseCoordinator(t *testing.T, answer func(wire.EnrollRequest, ed25519.PrivateKey) wire.EnrollResponse) wire.Token {
	t.Helper()
	kem, err := wire.KEM().GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id := wire.Identity{HPKE: kem.PublicKey().Bytes(), Network: pub}
	mux := http.NewServeMux()
	mux.HandleFunc(wire.PathIdentity, func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(id) })
	mux.HandleFunc(wire.PathEnroll, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		req, sealer, err := wire.OpenRequest(kem, b)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		sealed, _ := sealer.Seal(answer(req, key))
		_, _ = w.Write(sealed)
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return wire.Token{ID: "tok_a", Secret: wire.NewSecret(), Fingerprint: id.Fingerprint(), URLs: []string{s.URL}}
}

func mapFor(t *testing.T, to wgkey.PublicKey, key ed25519.PrivateKey) wire.EnrollResponse {
	t.Helper()
	m := wire.NetMap{Format: wire.Format, Network: wire.NetworkID(key.Public().(ed25519.PublicKey)), Self: wire.Self{PublicKey: to}}
	s, err := wire.Sign(m, key)
	if err != nil {
		t.Error(err)
	}
	return wire.EnrollResponse{NetMap: &s, Now: time.Unix(1_800_000_000, 0)}
}

// TestEnrollBelievesOnlyItsOwnSignedMap accepts one answer of a coordinator and refuses the others.
func TestEnrollBelievesOnlyItsOwnSignedMap(t *testing.T) {
	box := newKey(t)
	pub, err := box.Public()
	if err != nil {
		t.Fatal(err)
	}
	other, err := newKey(t).Public()
	if err != nil {
		t.Fatal(err)
	}
	_, stranger, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		answer func(wire.EnrollRequest, ed25519.PrivateKey) wire.EnrollResponse
		want   string
	}{
		"ours":             {func(_ wire.EnrollRequest, k ed25519.PrivateKey) wire.EnrollResponse { return mapFor(t, pub, k) }, ""},
		"another box's":    {func(_ wire.EnrollRequest, k ed25519.PrivateKey) wire.EnrollResponse { return mapFor(t, other, k) }, "for another key"},
		"signed elsewhere": {func(wire.EnrollRequest, ed25519.PrivateKey) wire.EnrollResponse { return mapFor(t, pub, stranger) }, wire.ErrSignature.Error()},
		"none":             {func(wire.EnrollRequest, ed25519.PrivateKey) wire.EnrollResponse { return wire.EnrollResponse{} }, "holds no NetMap"},
		"a refusal": {func(wire.EnrollRequest, ed25519.PrivateKey) wire.EnrollResponse {
			return wire.EnrollResponse{Error: &wire.Refusal{Code: "denied", Message: "no such token"}}
		}, "no such token"},
	} {
		t.Run(name, func(t *testing.T) {
			asked := 0
			tok := falseCoordinator(t, func(r wire.EnrollRequest, k ed25519.PrivateKey) wire.EnrollResponse {
				asked++
				if r.TokenID != "tok_a" || r.PublicKey != pub || len(r.Secret) != wire.SecretSize || r.Facts.Serial != "4711" {
					t.Errorf("the coordinator was told %s of %s", r, r.Facts.Serial)
				}
				return c.answer(r, k)
			})
			tok.URLs = append(tok.URLs, tok.URLs[0])
			got, err := control.Enroll(t.Context(), control.Ways{}, tok, box, wire.Facts{Serial: "4711"})
			if c.want == "" {
				if err != nil || got.NetMap.Self.PublicKey != pub || got.Coordinator.Unix() != 1_800_000_000 {
					t.Errorf("got %+v, %v", got.NetMap.Self, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
			if _, refused := errors.AsType[*wire.Refusal](err); refused && asked != 1 {
				t.Errorf("a coordinator that refused was asked %d times", asked)
			}
		})
	}
}
