package coordinator_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/coordinator"
	"github.com/towpath/towpath/provisioning/provisioningtest"
	"github.com/towpath/towpath/provisioning/wire"
)

func TestTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, provisioningtest.Options{Init: coordinator.InitOptions{URLs: []string{"http://vpn.example.org", "https://192.0.2.1"}}})
		ctx := t.Context()
		n.Clinic(t, "a")
		stored, token, err := n.CreateToken(ctx, "test", coordinator.NewToken{Site: "a"})
		if err != nil {
			t.Fatal(err)
		}
		if token.ID != string(stored.ID) || stored.SiteName != "a" || stored.State != coordinator.TokenOpen ||
			stored.Expires.Sub(stored.Created) != 72*time.Hour || !slices.Equal(token.URLs, []string{"http://vpn.example.org", "https://192.0.2.1"}) {
			t.Errorf("the token is %+v, %v", stored, token)
		}
		if _, err := wire.ParseToken(token.Reveal()); err != nil {
			t.Errorf("its text cannot be read: %v", err)
		}
		if strings.Contains(string(stored.Hash[:]), string(token.Secret[:])) {
			t.Error("the secret is stored")
		}
		for _, ttl := range []time.Duration{-time.Hour, time.Second, 91 * 24 * time.Hour} {
			_, _, err := n.CreateToken(ctx, "test", coordinator.NewToken{Site: "a", TTL: ttl})
			wantCode(t, err, provisioning.Invalid, "90 days")
		}
		_, _, err = n.CreateToken(ctx, "test", coordinator.NewToken{Site: "nobody"})
		wantCode(t, err, provisioning.NotFound, "nobody")

		used := n.Token(t, "a")
		box := n.Box(t)
		if err := box.Enroll(ctx, used, wire.Facts{}); err != nil {
			t.Fatal(err)
		}
		revoke := func(id string) error { return n.RevokeToken(ctx, "test", provisioning.TokenID(id)) }
		wantCode(t, revoke(used.ID), provisioning.Conflict, string(box.ID))
		wantCode(t, revoke("tok_unknown"), provisioning.NotFound, "tok_unknown")
		revoked := n.Token(t, "a")
		for range 2 {
			if err := revoke(revoked.ID); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(72 * time.Hour)
		tokens, err := n.Tokens(ctx)
		if err != nil {
			t.Fatal(err)
		}
		state := map[string]coordinator.TokenState{}
		for _, k := range tokens {
			state[string(k.ID)] = k.State
		}
		if state[token.ID] != coordinator.TokenExpired || state[used.ID] != coordinator.TokenUsed || state[revoked.ID] != coordinator.TokenRevoked {
			t.Errorf("the states are %v", state)
		}
	})
}
