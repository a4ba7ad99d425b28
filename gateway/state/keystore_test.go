package state_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/gateway/state"
	"github.com/towpath/towpath/gateway/state/tpm"
	"github.com/towpath/towpath/gateway/state/tpm/tpmtest"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// mask is a key store for tests: what it seals is the secret with every bit turned.
type mask struct {
	name string
	// forget has Unseal give back something else.
	forget bool
	fail   error
}

func (m mask) Name() string { return m.name }

func (m mask) Seal(secret []byte) ([]byte, error) { return turned(secret), m.fail }

func (m mask) Unseal(sealed []byte) ([]byte, error) {
	out := turned(sealed)
	if m.forget {
		out[0] ^= 8
	}
	return out, m.fail
}

func turned(b []byte) []byte {
	out := make([]byte, len(b))
	for i := range b {
		out[i] = ^b[i]
	}
	return out
}

// reopen opens the directory that d has or had, after d.
func reopen(t *testing.T, d *state.Dir, opts ...state.Option) *state.Dir {
	t.Helper()
	if err := d.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		t.Fatal(err)
	}
	d, err := state.Open(filepath.Dir(d.Path("x")), opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

// enrolled makes d the state of an enrolled box and returns its key.
func enrolled(t *testing.T, d *state.Dir) wgkey.PrivateKey {
	t.Helper()
	k, err := d.PendingKey()
	if err != nil {
		t.Fatal(err)
	}
	pub, key := network(t)
	if err := d.SaveEnrolled(state.Identity{PrivateKey: k, NetworkKey: pub, Node: "node_a", Site: "north", Enrolled: time.Unix(1, 0)}, signed(t, key, 1)); err != nil {
		t.Fatal(err)
	}
	return k
}

func identity(t *testing.T, d *state.Dir) state.Identity {
	t.Helper()
	id, err := d.Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// names lists a directory.
func names(t *testing.T, d *state.Dir) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(d.Path("x")))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// holds names the file of the directory that has the key in it, in any of the usual spellings; empty if none has.
func holds(t *testing.T, d *state.Dir, k wgkey.PrivateKey) string {
	t.Helper()
	raw := k.RevealBytes()
	for _, name := range names(t, d) {
		content, err := os.ReadFile(d.Path(name))
		if err != nil {
			t.Fatal(err)
		}
		for _, form := range [][]byte{
			raw[:], []byte(base64.StdEncoding.EncodeToString(raw[:])[:40]), []byte(base64.URLEncoding.EncodeToString(raw[:])[:40]),
			[]byte(hex.EncodeToString(raw[:])), []byte(strings.ToUpper(hex.EncodeToString(raw[:]))),
		} {
			if bytes.Contains(content, form) {
				return name
			}
		}
	}
	return ""
}

// TestKeysNeverTouchTheDiskInClear takes a box through its life with a real TPM 2.0 in software.
func TestKeysNeverTouchTheDiskInClear(t *testing.T) {
	v := tpmtest.Start(t)
	s, err := tpm.Open(v.Path)
	if err != nil {
		t.Fatal(err)
	}
	d := reopen(t, open(t), state.WithSealer(s))
	pending, err := d.PendingKey()
	if err != nil {
		t.Fatal(err)
	}
	check := func(when string, keys ...wgkey.PrivateKey) {
		t.Helper()
		for _, k := range keys {
			if name := holds(t, d, k); name != "" {
				t.Fatalf("%s: %s has a key in clear", when, name)
			}
		}
	}
	check("pending", pending)
	d = reopen(t, d, state.WithSealer(s))
	key := enrolled(t, d)
	if !key.Equal(pending) {
		t.Fatal("the pending key changed over a restart")
	}
	check("enrolled", key)
	if _, err := d.NextKey(); err != nil {
		t.Fatal(err)
	}
	next := identity(t, d).Next
	check("prepared", key, next)
	for _, step := range []func() error{d.TurnKey, d.TurnBackKey, d.TurnKey, d.SettleKey} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
		check("rotated", key, next)
	}
	v.Restart()
	d = reopen(t, d, state.WithSealer(s))
	if !identity(t, d).PrivateKey.Equal(next) {
		t.Error("the new key did not survive a restart")
	}
	// The proof that the search finds what it looks for.
	d = reopen(t, d, state.WithUnsealer(s))
	if err := d.Reseal(); err != nil {
		t.Fatal(err)
	}
	if name := holds(t, d, next); name != "identity.json" {
		t.Errorf("moved to the file, the key is in %q", name)
	}
	v.Clear()
	d = reopen(t, d, state.WithSealer(s))
	if err := d.Reseal(); err != nil {
		t.Fatal(err)
	}
	check("moved back", next)
	v.Clear()
	if _, err := d.Identity(); !errors.Is(err, tpm.ErrOtherTPM) {
		t.Errorf("after the TPM was cleared: %v", err)
	}
}

func TestResealMovesAllKeysAndNothingElse(t *testing.T) {
	store := mask{name: "mask"}
	d := open(t)
	enrolled(t, d)
	if _, err := d.NextKey(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.Path("something"), []byte("else"), 0o600); err != nil {
		t.Fatal(err)
	}
	before, files := identity(t, d), names(t, d)
	same := func(when string) {
		t.Helper()
		id := identity(t, d)
		if !id.PrivateKey.Equal(before.PrivateKey) || !id.Next.Equal(before.Next) || !id.Former.IsZero() ||
			id.Node != before.Node || id.Site != before.Site || !id.Enrolled.Equal(before.Enrolled) || !bytes.Equal(id.NetworkKey, before.NetworkKey) {
			t.Errorf("%s: the identity changed", when)
		}
		if got := names(t, d); strings.Join(got, " ") != strings.Join(files, " ") {
			t.Errorf("%s: files %v, before %v", when, got, files)
		}
	}
	d = reopen(t, d, state.WithSealer(store))
	same("read with a key store that it does not use yet")
	seen := watch(t, d, func() {
		if err := d.Reseal(); err != nil {
			t.Fatal(err)
		}
	})
	seen.oneReplacement(t, "identity.json")
	same("sealed")
	for _, k := range []wgkey.PrivateKey{before.PrivateKey, before.Next} {
		if name := holds(t, d, k); name != "" {
			t.Errorf("%s still has a key in clear", name)
		}
	}
	d = reopen(t, d, state.WithUnsealer(store))
	same("read out")
	if err := d.Reseal(); err != nil {
		t.Fatal(err)
	}
	d = reopen(t, d)
	same("in the file again")
}

func TestResealBeforeEnrolment(t *testing.T) {
	store := mask{name: "mask"}
	d := reopen(t, open(t), state.WithSealer(store))
	if err := d.Reseal(); !errors.Is(err, state.ErrNotEnrolled) {
		t.Errorf("nothing to seal: %v", err)
	}
	d = reopen(t, d)
	k, err := d.PendingKey()
	if err != nil {
		t.Fatal(err)
	}
	d = reopen(t, d, state.WithSealer(store))
	if err := d.Reseal(); err != nil {
		t.Fatal(err)
	}
	if name := holds(t, d, k); name != "" {
		t.Errorf("%s still has the pending key in clear", name)
	}
	if again, err := d.PendingKey(); err != nil || !again.Equal(k) {
		t.Errorf("the pending key changed, %v", err)
	}
}

func TestMissingKeyStore(t *testing.T) {
	d := reopen(t, open(t), state.WithSealer(mask{name: "mask"}))
	path := filepath.Dir(d.Path("x"))
	refused := func(when string) {
		t.Helper()
		for _, opts := range [][]state.Option{nil, {state.WithSealer(nil)}, {state.WithSealer(mask{name: "other"})}} {
			other, err := state.Open(path, opts...)
			if !errors.Is(err, state.ErrKeyStore) || !strings.Contains(err.Error(), `"mask"`) {
				t.Fatalf("%s: %v", when, err)
			}
			if other != nil {
				t.Fatalf("%s: an error and a directory", when)
			}
		}
	}
	if _, err := d.PendingKey(); err != nil {
		t.Fatal(err)
	}
	_ = d.Close()
	refused("pending")
	d = reopen(t, d, state.WithSealer(mask{name: "mask"})) // which also shows that a refusal keeps no lock
	enrolled(t, d)
	_ = d.Close()
	refused("enrolled")
	for _, name := range []string{"", "file", "Mask", "a:b", "a b"} {
		if _, err := state.Open(path, state.WithSealer(mask{name: name})); err == nil || errors.Is(err, state.ErrKeyStore) {
			t.Errorf("a key store named %q: %v", name, err)
		}
	}
}

func TestDefectiveKeyStoreChangesNothing(t *testing.T) {
	broken := errors.New("broken")
	for name, store := range map[string]mask{"fails": {name: "mask", fail: broken}, "forgets": {name: "mask", forget: true}} {
		t.Run(name, func(t *testing.T) {
			d := open(t)
			k := enrolled(t, d)
			d = reopen(t, d, state.WithSealer(store))
			before, err := os.ReadFile(d.Path("identity.json"))
			if err != nil {
				t.Fatal(err)
			}
			if err := d.Reseal(); err == nil {
				t.Error("keys were entrusted to it")
			}
			if _, err := d.NextKey(); err == nil {
				t.Error("a new key was entrusted to it")
			}
			after, err := os.ReadFile(d.Path("identity.json"))
			if err != nil || !bytes.Equal(before, after) {
				t.Errorf("the identity changed, %v", err)
			}
			if id := identity(t, d); !id.PrivateKey.Equal(k) {
				t.Error("the key changed")
			}
		})
	}
}

// TestOpenClearsAwayWhatAPowerCutLeft: copies of keys under other names, and a pending key that the identity has.
func TestOpenClearsAwayWhatAPowerCutLeft(t *testing.T) {
	d := open(t)
	k := enrolled(t, d)
	for _, name := range []string{".identity.json12345", ".pending-key7", "pending-key"} {
		if err := os.WriteFile(d.Path(name), []byte(k.RevealText()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d = reopen(t, d)
	for _, name := range names(t, d) {
		if strings.HasPrefix(name, ".") || name == "pending-key" {
			t.Errorf("%s is still there", name)
		}
	}
	if !identity(t, d).PrivateKey.Equal(k) {
		t.Error("the identity went with it")
	}
	// Without an identity, or with one that cannot be read, the pending key may be all there is.
	for _, content := range []string{"", "{"} {
		d = open(t)
		want, err := d.PendingKey()
		if err != nil {
			t.Fatal(err)
		}
		if content != "" {
			if err := os.WriteFile(d.Path("identity.json"), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		d = reopen(t, d)
		if got, err := d.PendingKey(); err != nil || !got.Equal(want) {
			t.Errorf("identity %q: the pending key changed, %v", content, err)
		}
	}
}

// TestKeysStayInTheirDirectory: the way to the file leads through no other directory, such as the system's for temporary files.
func TestKeysStayInTheirDirectory(t *testing.T) {
	elsewhere := t.TempDir()
	t.Setenv("TMPDIR", elsewhere)
	d := open(t)
	seen := watchPath(t, elsewhere, func() { enrolled(t, d) })
	for _, e := range seen {
		if strings.HasPrefix(e.name, ".") {
			t.Errorf("%s was made in the system's temporary directory", e.name)
		}
	}
}

func TestSealedIdentityDamaged(t *testing.T) {
	d := reopen(t, open(t), state.WithSealer(mask{name: "mask"}))
	enrolled(t, d)
	b, err := os.ReadFile(d.Path("identity.json"))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ old, new string }{
		"no base64":     {`"mask:`, `"mask:!`},
		"too short":     {`"mask:`, `"mask:AAAA","x":"`},
		"empty":         {`"private_key": "mask:`, `"private_key": "","x":"`},
		"next, former":  {`"private_key"`, `"next_key":"a","former_key":"b","private_key"`},
		"later format":  {`"format": 2`, `"format": 3`},
		"unknown store": {`"mask:`, `"nobody:`},
	} {
		changed := strings.Replace(string(b), c.old, c.new, 1)
		if changed == string(b) {
			t.Fatalf("%s: nothing was changed in %s", name, b)
		}
		if err := os.WriteFile(d.Path("identity.json"), []byte(changed), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Identity(); err == nil || errors.Is(err, state.ErrNotEnrolled) || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
