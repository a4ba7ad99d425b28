package coordinator_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/coordinator"
)

func TestKeys(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	made, err := coordinator.CreateKeys(dir)
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := coordinator.LoadKeys(dir)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(made.Identity(), loaded.Identity()); d != "" || made.HubPublicKey() != loaded.HubPublicKey() || made.NetworkID() != loaded.NetworkID() {
		t.Errorf("other keys were loaded: %s", d)
	}
	wantCode(t, reason(coordinator.CreateKeys(dir)), provisioning.Conflict, "holds a key already, enroll.key")
	again, err := coordinator.LoadKeys(dir)
	if err != nil || again.NetworkID() != made.NetworkID() {
		t.Errorf("after a refused creation: %v", err)
	}

	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory has mode %v (%v)", info.Mode(), err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 3 {
		t.Fatalf("the directory has %d files (%v)", len(entries), err)
	}
	shown := fmt.Sprintf("%v %+v %#v %s", made, made, made, made)
	if b, err := json.Marshal(made); err == nil { //nolint:staticcheck // that nothing can be seen is what is tried
		shown += string(b)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		info, err := e.Info()
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v (%v)", e.Name(), info.Mode(), err)
		}
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(shown, strings.TrimSpace(string(good))) {
			t.Errorf("%s is printed", e.Name())
		}
		load := func() error { return reason(coordinator.LoadKeys(dir)) }
		for _, bad := range []string{"", "AAAA\n", "!!!", strings.Repeat("A", 1<<15)} {
			if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
				t.Fatal(err)
			}
			wantCode(t, load(), provisioning.Invalid, e.Name(), "damaged", "backup")
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		wantCode(t, load(), provisioning.NotFound, e.Name(), dir)
		if err := os.WriteFile(path, good, 0o640); err != nil {
			t.Fatal(err)
		}
		wantCode(t, load(), provisioning.Denied, "0640", "chmod 600")
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := load(); err != nil {
			t.Errorf("with all put back: %v", err)
		}
	}
}
