package coordinator_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/coordinator"
)

func TestOfflineKeys(t *testing.T) {
	root := t.TempDir()
	dir, medium := filepath.Join(root, "keys"), filepath.Join(root, "medium")
	if err := os.Mkdir(medium, 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(medium, "network.key")
	wantCode(t, reason(coordinator.CreateOfflineKeys(dir, filepath.Join(dir, "network.key"))), provisioning.Invalid, "own directory")
	if err := os.Symlink(dir, filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	wantCode(t, reason(coordinator.CreateOfflineKeys(dir, filepath.Join(root, "link", "sub", "..", "x.key"))), provisioning.Invalid)
	wantCode(t, reason(coordinator.CreateOfflineKeys(dir, filepath.Join(root, "link", "x.key"))), provisioning.Invalid, "own directory")
	wantCode(t, reason(coordinator.CreateOfflineKeys(dir, filepath.Join(root, "none", "x.key"))), provisioning.NotFound, "mount")
	made, err := coordinator.CreateOfflineKeys(dir, file)
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := coordinator.LoadKeys(dir)
	if err != nil {
		t.Fatal(err)
	}
	key, err := coordinator.LoadOfflineKey(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(made.Identity(), loaded.Identity()); d != "" || !loaded.Offline() || key.NetworkID() != loaded.NetworkID() {
		t.Errorf("offline %v, network %s and %s: %s", loaded.Offline(), key.NetworkID(), loaded.NetworkID(), d)
	}
	seed, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if strings.Contains(string(b), strings.TrimSpace(string(seed))) {
			t.Errorf("%s holds the network's key", path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if text := fmt.Sprintf("%v %+v %#v %s", key, key, key, key.LogValue()); strings.Contains(text, string(seed[:8])) || strings.Contains(text, "[") {
		t.Errorf("the key is printed: %s", text)
	}
	other := filepath.Join(medium, "other.key")
	wantCode(t, reason(coordinator.CreateOfflineKeys(dir, other)), provisioning.Conflict, "holds a key already")
	wantCode(t, reason(coordinator.CreateOfflineKeys(filepath.Join(root, "keys2"), file)), provisioning.Conflict, "never replaced")
	if _, err := os.Stat(other); err == nil {
		t.Error("a refused network has left a key")
	}
}

func TestDamagedOfflineKeysAreRefused(t *testing.T) {
	root := t.TempDir()
	dir, file := filepath.Join(root, "keys"), filepath.Join(root, "network.key")
	if _, err := coordinator.CreateOfflineKeys(dir, file); err != nil {
		t.Fatal(err)
	}
	second := filepath.Join(root, "keys2")
	if _, err := coordinator.CreateOfflineKeys(second, filepath.Join(root, "second.key")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"network.pub", "map.key", "map.delegation"} {
		path := filepath.Join(dir, name)
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		foreign, err := os.ReadFile(filepath.Join(second, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range [][]byte{nil, []byte("!!"), []byte("AAAA"), foreign} {
			if err := os.WriteFile(path, text, 0o600); err != nil {
				t.Fatal(err)
			}
			wantCode(t, reason(coordinator.LoadKeys(dir)), provisioning.Invalid, "damaged")
		}
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := coordinator.LoadKeys(dir); err != nil {
		t.Errorf("after repair: %v", err)
	}
	wantCode(t, reason(coordinator.LoadOfflineKey(filepath.Join(root, "none"))), provisioning.NotFound)
	wantCode(t, reason(coordinator.LoadOfflineKey(filepath.Join(dir, "map.delegation"))), provisioning.Invalid)
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	wantCode(t, reason(coordinator.LoadOfflineKey(file)), provisioning.Denied, "others")
}
