package state_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/gateway/state"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

func open(t *testing.T) *state.Dir {
	t.Helper()
	d, err := state.Open(filepath.Join(t.TempDir(), "box"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func network(t *testing.T) (ed25519.PublicKey, ed25519.PrivateKey) {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return pub, key
}

func signed(t *testing.T, key ed25519.PrivateKey, generation uint64) wire.Signed {
	t.Helper()
	s, err := wire.Sign(wire.NetMap{Format: wire.Format, Network: wire.NetworkID(key.Public().(ed25519.PublicKey)), Generation: generation}, key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestEnrolledStateSurvivesAndStaysPrivate(t *testing.T) {
	d := open(t)
	if _, err := d.Identity(); !errors.Is(err, state.ErrNotEnrolled) {
		t.Fatalf("a new box must not be enrolled, got %v", err)
	}
	pub, key := network(t)
	box, err := d.PendingKey()
	if err != nil {
		t.Fatal(err)
	}
	want := state.Identity{PrivateKey: box, NetworkKey: pub, Node: "node_a", Site: "north", Enrolled: time.Unix(1, 0).UTC()}
	if err := d.SaveEnrolled(want, signed(t, key, 7)); err != nil {
		t.Fatal(err)
	}
	got, err := d.Identity()
	if err != nil {
		t.Fatal(err)
	}
	if got.PrivateKey.RevealText() != want.PrivateKey.RevealText() || got.Node != want.Node || !got.Enrolled.Equal(want.Enrolled) {
		t.Errorf("the identity changed on its way through the file: %+v", got)
	}
	if m, err := d.NetMap(pub); err != nil || m.Generation != 7 {
		t.Errorf("NetMap: generation %d, %v", m.Generation, err)
	}
	for _, name := range []string{"identity.json", "netmap.json"} {
		st, err := os.Stat(d.Path(name))
		if err != nil {
			t.Fatal(err)
		}
		if st.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %o, want 600", name, st.Mode().Perm())
		}
	}
	if _, err := os.Stat(d.Path("pending-key")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the pending key must be gone after enrolment, got %v", err)
	}
	if err := d.SaveEnrolled(want, signed(t, key, 8)); !errors.Is(err, state.ErrEnrolled) {
		t.Errorf("a second enrolment must be refused, got %v", err)
	}
}

func TestPendingKeyIsTheSameUntilEnrolled(t *testing.T) {
	d := open(t)
	a, err := d.PendingKey()
	if err != nil {
		t.Fatal(err)
	}
	b, err := d.PendingKey()
	if err != nil {
		t.Fatal(err)
	}
	if a.RevealText() != b.RevealText() {
		t.Error("a second try must come with the same key, or a lost answer costs a token")
	}
}

func TestDirectoryIsLocked(t *testing.T) {
	d := open(t)
	if _, err := state.Open(filepath.Dir(d.Path("x"))); !errors.Is(err, state.ErrLocked) {
		t.Errorf("a second process must be refused, got %v", err)
	}
}

func TestForeignMapIsRefused(t *testing.T) {
	d := open(t)
	_, stranger := network(t)
	pub, _ := network(t)
	if err := d.SaveNetMap(signed(t, stranger, 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := d.NetMap(pub); !errors.Is(err, wire.ErrSignature) {
		t.Errorf("a map signed by somebody else must be refused, got %v", err)
	}
}

func TestDamagedIdentityNeverShowsTheKey(t *testing.T) {
	d := open(t)
	k, err := wgkey.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	for _, content := range []string{
		`{"format":1,"private_key":"` + k.RevealText() + `"`,
		`{"format":1,"private_key":"` + k.RevealText() + `x","network_key":""}`,
		`{"format":1,"private_key":"` + k.RevealText() + `","network_key":"` + base64.StdEncoding.EncodeToString([]byte("short")) + `"}`,
		`{"format":99}`,
	} {
		if err := os.WriteFile(d.Path("identity.json"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := d.Identity()
		if err == nil || errors.Is(err, state.ErrNotEnrolled) {
			t.Fatalf("a damaged identity must be an error of its own, got %v", err)
		}
		if strings.Contains(err.Error(), k.RevealText()[:8]) {
			t.Errorf("the error shows the key: %v", err)
		}
	}
}

func TestTimeFloorOnlyRises(t *testing.T) {
	d := open(t)
	if f, err := d.TimeFloor(); err != nil || !f.IsZero() {
		t.Fatalf("a new box has no floor, got %v, %v", f, err)
	}
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for _, at := range []time.Time{now, now.Add(-time.Hour), now.Add(time.Minute), now} {
		if err := d.RaiseTimeFloor(at); err != nil {
			t.Fatal(err)
		}
	}
	if f, err := d.TimeFloor(); err != nil || !f.Equal(now.Add(time.Minute)) {
		t.Errorf("floor %v, %v; want %v", f, err, now.Add(time.Minute))
	}
}
