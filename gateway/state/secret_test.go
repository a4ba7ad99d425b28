package state_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/towpath/towpath/gateway/state"
)

// A secret is longer than what a key store seals, and moves with it all the same.
func TestSecretMovesBetweenKeyStores(t *testing.T) {
	d, err := state.Open(filepath.Join(t.TempDir(), "box"))
	if err != nil {
		t.Fatal(err)
	}
	enrolled(t, d)
	if _, err := d.Secret(state.LANAuthority); !errors.Is(err, state.ErrNoSecret) {
		t.Fatal("before there is one:", err)
	}
	secret := bytes.Repeat([]byte("a key of an authority "), 100)
	if err := d.SaveSecret(state.LANAuthority, secret); err != nil {
		t.Fatal(err)
	}
	check := func(d *state.Dir) {
		t.Helper()
		got, err := d.Secret(state.LANAuthority)
		if err != nil || !bytes.Equal(got, secret) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		if text, err := os.ReadFile(d.Path(state.LANAuthority)); err != nil || bytes.Contains(text, secret[:20]) {
			t.Fatal("in clear", err)
		}
	}
	check(d)
	store := mask{name: "mask"}
	d = reopen(t, d, state.WithSealer(store))
	check(d)
	if err := d.Reseal(); err != nil {
		t.Fatal(err)
	}
	check(d)
	path := filepath.Dir(d.Path("x"))
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := state.Open(path); !errors.Is(err, state.ErrKeyStore) {
		t.Error("opened without its key store:", err)
	}
	if d, err = state.Open(path, state.WithSealer(store)); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	text, err := os.ReadFile(d.Path(state.LANAuthority))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.Path(state.LANServer), text, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Secret(state.LANServer); err == nil {
		t.Error("one secret was taken for another")
	}
}
