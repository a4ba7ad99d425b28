package gateway

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/gateway/health"
	"github.com/towpath/towpath/gateway/state"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/proxy/spool"
)

// vault is a coordinator that keeps keys.
type vault struct {
	keys   []wire.HeldSpoolKey
	needed [][]string
	refuse error
	asked  int
}

func (v *vault) DepositSpoolKey(_ context.Context, d wire.SpoolKeyDeposit) error {
	if v.refuse != nil {
		return v.refuse
	}
	d.Key.Private = bytes.Clone(d.Key.Private)
	v.keys = append(v.keys, d.Key)
	v.needed = append(v.needed, d.Needed)
	return nil
}

func (v *vault) SpoolKeys(context.Context) (wire.SpoolKeys, error) {
	v.asked++
	var out wire.SpoolKeys
	for _, k := range v.keys {
		out.Keys = append(out.Keys, wire.HeldSpoolKey{ID: k.ID, Private: bytes.Clone(k.Private)})
	}
	return out, v.refuse
}

// keyBox is a box as far as the keys of its queue go.
type keyBox struct {
	*spoolKeys
	t        *testing.T
	path     string
	opts     []state.Option
	vault    *vault
	now      time.Time
	unlocked int
}

func newKeyBox(t *testing.T, opts ...state.Option) *keyBox {
	b := &keyBox{t: t, path: t.TempDir(), opts: opts, vault: &vault{}, now: time.Now()}
	b.start()
	t.Cleanup(b.stop)
	return b
}

func (b *keyBox) start() {
	b.t.Helper()
	dir, err := state.Open(b.path, b.opts...)
	if err != nil {
		b.t.Fatal(err)
	}
	s, err := spool.Open(dir.Path(state.SpoolDir), spool.Options{MinFreeBytes: -1})
	if err != nil {
		b.t.Fatal(err)
	}
	b.spoolKeys, err = openSpoolKeys(Options{Dir: dir, Spool: s, Log: slog.New(slog.DiscardHandler)}, b.vault)
	if err != nil {
		b.t.Fatal(err)
	}
	b.health = &health.Set{}
	b.spoolKeys.unlocked = func() { b.unlocked++ }
}

func (b *keyBox) stop() {
	if err := errors.Join(b.spool.Close(), b.dir.Close()); err != nil && !errors.Is(err, os.ErrClosed) {
		b.t.Error(err)
	}
}

func (b *keyBox) restart() { b.t.Helper(); b.stop(); b.start() }

func (b *keyBox) put() {
	b.t.Helper()
	w, err := b.spool.Create(spool.Meta{Queue: "q"})
	if err == nil {
		_, err = w.Commit()
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// deliver takes n items out.
func (b *keyBox) deliver(n int) {
	b.t.Helper()
	for range n {
		ctx, cancel := context.WithTimeout(b.t.Context(), 10*time.Second)
		l, err := b.spool.Next(ctx, "q")
		if err == nil {
			err = l.Done(spool.Receipt{})
		}
		cancel()
		if err != nil {
			b.t.Fatal(err)
		}
	}
}

// round is one of the loop's, which says what is wrong.
func (b *keyBox) round(want wire.SpoolKey, connected bool) map[string]string {
	b.t.Helper()
	b.follow(b.t.Context(), want, connected, b.now)
	out := map[string]string{}
	for _, c := range b.health.List() {
		out[c.Code] = string(c.Severity) + ": " + c.Message
	}
	return out
}

func (b *keyBox) locked() int {
	b.t.Helper()
	u, err := b.spool.Usage()
	if err != nil || u.Plain != 0 || !u.Sealed {
		b.t.Fatalf("%+v, %v", u, err)
	}
	return u.Locked
}

func (b *keyBox) stores() (names []string) {
	b.t.Helper()
	keys, err := b.dir.SpoolKeys()
	if err != nil {
		b.t.Fatal(err)
	}
	for _, k := range keys {
		names = append(names, k.Store)
	}
	return names
}

// holds reports whether a secret is in any file of the box.
func (b *keyBox) holds(secret []byte) bool {
	found := false
	err := filepath.WalkDir(b.path, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		found = found || bytes.Contains(content, secret) || strings.Contains(string(content), base64.StdEncoding.EncodeToString(secret))
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return found
}

func TestKeyOnTheBox(t *testing.T) {
	b := newKeyBox(t)
	b.put()
	b.restart()
	if n := b.locked(); n != 0 {
		t.Errorf("%d items are locked, and the key is there", n)
	}
	if got := b.round("", true); len(got) != 0 || b.vault.asked != 0 || len(b.vault.keys) != 0 {
		t.Errorf("%v, %d questions", got, b.vault.asked)
	}
	b.deliver(1)
	if got := b.stores(); len(got) != 1 || got[0] != state.FileStore {
		t.Errorf("keys in %v", got)
	}
}

// TestKeyAtTheCoordinator goes through the life of a box whose key is elsewhere: it is left there, comes back into memory only, and what was
// encrypted with the key before is still delivered.
func TestKeyAtTheCoordinator(t *testing.T) {
	b := newKeyBox(t)
	b.put()
	if got := b.round(wire.SpoolKeyCoordinator, false); !strings.Contains(got[codeSpoolKey], "not reached") {
		t.Errorf("while it is away: %v", got)
	}
	b.vault.refuse = errors.New("409 Conflict")
	if got := b.round(wire.SpoolKeyCoordinator, true); !strings.Contains(got[codeSpoolKey], "409") {
		t.Errorf("when it refuses: %v", got)
	}
	b.vault.refuse = nil
	for range 2 {
		if got := b.round(wire.SpoolKeyCoordinator, true); len(got) != 0 || len(b.vault.keys) != 1 {
			t.Fatalf("%v, %d keys", got, len(b.vault.keys))
		}
	}
	if len(b.vault.needed[0]) != 1 {
		t.Errorf("it said that %v are needed", b.vault.needed)
	}
	b.put()
	b.put()
	b.restart()
	if b.holds(b.vault.keys[0].Private) {
		t.Error("the private key is on the disk")
	}
	if n := b.locked(); n != 2 {
		t.Errorf("%d items are locked, want the two that were sealed to the coordinator's key", n)
	}
	if got := b.round(wire.SpoolKeyCoordinator, false); !strings.Contains(got[codeSpoolLocked], "warning: 2 items") || b.vault.asked != 0 {
		t.Errorf("while it is away: %v", got)
	}
	b.put()
	b.deliver(2) // that of the box's own key, and the new one
	if got := b.stores(); len(got) != 2 {
		t.Errorf("keys in %v", got)
	}
	if got := b.round(wire.SpoolKeyCoordinator, true); len(got) != 0 || b.locked() != 0 || b.unlocked != 1 {
		t.Errorf("%v, %d locked, %d calls", got, b.locked(), b.unlocked)
	}
	b.deliver(2)
	b.restart() // which removes data keys that are not needed
	b.round(wire.SpoolKeyCoordinator, true)
	if got := b.stores(); len(got) != 1 || got[0] != state.CoordinatorStore || b.vault.asked != 1 {
		t.Errorf("keys in %v, %d questions", got, b.vault.asked)
	}
	if b.holds(b.vault.keys[0].Private) {
		t.Error("the private key is on the disk")
	}

	// And back.
	b.put()
	if got := b.round(wire.SpoolKeyFile, true); len(got) != 0 {
		t.Errorf("%v", got)
	}
	b.put()
	b.restart()
	if n := b.locked(); n != 1 || b.stores()[0] != state.FileStore {
		t.Errorf("%d locked, keys in %v", n, b.stores())
	}
	b.round(wire.SpoolKeyFile, true)
	b.deliver(2)
}

func TestKeyThatNobodyHas(t *testing.T) {
	b := newKeyBox(t)
	b.round(wire.SpoolKeyCoordinator, true)
	b.put()
	b.vault.keys = nil
	b.restart()
	for range 5 {
		if got := b.round(wire.SpoolKeyCoordinator, true); !strings.Contains(got[codeSpoolLocked], "error: 1 items") {
			t.Errorf("%v", got)
		}
		b.now = b.now.Add(spoolKeyEvery)
	}
	if b.vault.asked != 1 {
		t.Errorf("it asked %d times in a minute, and each is in the audit trail", b.vault.asked)
	}
	b.now = b.now.Add(askAgain)
	b.round(wire.SpoolKeyCoordinator, true)
	if b.vault.asked != 2 {
		t.Errorf("it asked %d times", b.vault.asked)
	}
	epochs, err := filepath.Glob(filepath.Join(b.path, state.SpoolDir, "epochs", "*"))
	if err != nil || len(epochs) != 1 {
		t.Fatal(epochs, err)
	}
	if err := os.Remove(epochs[0]); err != nil {
		t.Fatal(err)
	}
	b.restart()
	if got := b.round(wire.SpoolKeyCoordinator, true); !strings.Contains(got[codeSpoolLocked], "epochs") || b.vault.asked != 2 {
		t.Errorf("%v, %d questions", got, b.vault.asked)
	}
}

// inverse is a key store for tests.
type inverse struct{}

func (inverse) Name() string { return "tpm" }

func (inverse) Seal(b []byte) ([]byte, error) {
	out := bytes.Clone(b)
	for i := range out {
		out[i] ^= 0x5a
	}
	return out, nil
}

func (s inverse) Unseal(b []byte) ([]byte, error) { return s.Seal(b) }

func TestKeyInTheTPM(t *testing.T) {
	b := newKeyBox(t)
	if got := b.round(wire.SpoolKeyTPM, true); !strings.Contains(got[codeSpoolKey], "keystore move") {
		t.Errorf("without a TPM: %v", got)
	}
	b.put()
	b.opts = []state.Option{state.WithSealer(inverse{})}
	b.restart()
	if got := b.round(wire.SpoolKeyTPM, true); len(got) != 0 || b.stores()[0] != "tpm" {
		t.Errorf("%v, keys in %v", got, b.stores())
	}
	b.put()
	keys, err := b.dir.SpoolKeys()
	if err != nil {
		t.Fatal(err)
	}
	secret, err := keys[0].Private.RevealBytes()
	if err != nil || b.holds(secret) {
		t.Errorf("the key that the TPM keeps is on the disk (%v)", err)
	}
	b.restart()
	if b.locked() != 0 {
		t.Error("with the TPM it is locked")
	}
	b.deliver(2)
	b.restart()
	b.round(wire.SpoolKeyTPM, true)
	if got := b.stores(); len(got) != 1 || got[0] != "tpm" {
		t.Errorf("the former key is still there: %v", got)
	}
	// Moving keys takes those of the queue along.
	b.put()
	b.stop()
	d, err := state.Open(b.path, state.WithUnsealer(inverse{}))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Reseal(); err != nil && !errors.Is(err, state.ErrNotEnrolled) {
		t.Fatal(err)
	}
	_ = d.Close()
	b.opts = nil
	b.start()
	if got := b.stores(); got[0] != state.FileStore || b.locked() != 0 {
		t.Errorf("moved back, it is in %v and %d items are locked", got, b.locked())
	}
}
