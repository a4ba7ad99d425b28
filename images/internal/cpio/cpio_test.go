package cpio_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/towpath/towpath/images/internal/cpio"
)

// entries reads an archive back, strictly.
func entries(t *testing.T, b []byte) (names []string, data map[string]string, mode map[string]uint64) {
	t.Helper()
	data, mode = map[string]string{}, map[string]uint64{}
	align := func(n int) int { return (n + 3) &^ 3 }
	for off := 0; ; {
		field := func(i int) int {
			v, err := strconv.ParseUint(string(b[off+6+8*i:off+14+8*i]), 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			return int(v)
		}
		if string(b[off:off+6]) != "070701" {
			t.Fatalf("no magic at %d", off)
		}
		size, length := field(6), field(11)
		name := string(b[off+110 : off+110+length-1])
		begin := align(off + 110 + length)
		if name == "TRAILER!!!" {
			return names, data, mode
		}
		names = append(names, name)
		data[name], mode[name] = string(b[begin:begin+size]), uint64(field(1))
		off = align(begin + size)
	}
}

func archive(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	w := cpio.New(&b)
	w.Device("dev/console", 5, 1)
	w.File("init", true, []byte("#!"))
	w.File("a/b/c", false, []byte("hello"))
	w.Directory("a/b")
	w.Link("var/run", "/run")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestArchive(t *testing.T) {
	b := archive(t)
	names, data, mode := entries(t, b)
	if got := strings.Join(names, " "); got != "dev dev/console init a a/b a/b/c var var/run" {
		t.Errorf("names %s", got)
	}
	if data["a/b/c"] != "hello" || data["var/run"] != "/run" || data["init"] != "#!" {
		t.Errorf("contents %q", data)
	}
	for name, want := range map[string]uint64{"dev": 0o40755, "dev/console": 0o20600, "init": 0o100755, "a/b/c": 0o100644, "var/run": 0o120777} {
		if mode[name] != want {
			t.Errorf("%s has mode %o, want %o", name, mode[name], want)
		}
	}
	if !bytes.Equal(b, archive(t)) {
		t.Error("the same input gives other bytes")
	}
}

// What GNU cpio makes of it.
func TestForeignReader(t *testing.T) {
	program, err := exec.LookPath("cpio")
	if err != nil {
		t.Log("no cpio here; TestArchive reads the archive with a reader of its own")
		return
	}
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), program, "-id", "--quiet", "--no-preserve-owner", "a/*", "init")
	cmd.Dir, cmd.Stdin = dir, bytes.NewReader(archive(t))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "a/b/c")); err != nil || string(got) != "hello" {
		t.Errorf("read back %q (%v)", got, err)
	}
}

type full struct{ room int }

var errFull = errors.New("full")

func (f *full) Write(p []byte) (int, error) {
	if f.room -= len(p); f.room < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestErrorIsKept(t *testing.T) {
	for room := range 300 {
		w := cpio.New(&full{room: room})
		w.File("a", false, []byte("x"))
		if err := w.Close(); (room < 240) != errors.Is(err, errFull) {
			t.Fatalf("with room for %d bytes: %v", room, err)
		}
	}
}
