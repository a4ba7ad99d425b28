package state_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/towpath/towpath/gateway/state"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// happened is what the kernel saw happen to a file in a directory (inotify(7)).
type happened struct {
	name string
	mask uint32
}

type events []happened

// watch runs f and returns what it did in d's directory.
func watch(t *testing.T, d *state.Dir, f func()) events {
	t.Helper()
	return watchPath(t, filepath.Dir(d.Path("x")), f)
}

func watchPath(t *testing.T, path string, f func()) events {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	const all = unix.IN_CREATE | unix.IN_DELETE | unix.IN_MODIFY | unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_ATTRIB
	if _, err := unix.InotifyAddWatch(fd, path, all); err != nil {
		t.Fatal(err)
	}
	f()
	buf := make([]byte, 64<<10)
	n, err := unix.Read(fd, buf)
	if errors.Is(err, unix.EAGAIN) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	var seen events
	for b := buf[:n]; len(b) >= unix.SizeofInotifyEvent; {
		size := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(b[12:]))
		name, _, _ := bytes.Cut(b[unix.SizeofInotifyEvent:size], []byte{0})
		seen = append(seen, happened{string(name), binary.NativeEndian.Uint32(b[4:])})
		b = b[size:]
	}
	return seen
}

// oneReplacement wants nothing but one file replaced by one rename: whatever else happened, happened to the file that was renamed,
// and before. A power cut between any two of these events leaves the old file or the new one.
func (seen events) oneReplacement(t *testing.T, name string) {
	t.Helper()
	if len(seen) == 0 {
		t.Fatalf("%s was not replaced", name)
	}
	for i, e := range seen {
		last := i == len(seen)-1
		switch {
		case last && e.name == name && e.mask&unix.IN_MOVED_TO != 0:
		case !last && strings.HasPrefix(e.name, "."+name):
		default:
			t.Errorf("event %d of %d is %#x on %s", i+1, len(seen), e.mask, e.name)
		}
	}
}

func TestEachStepOfARotationIsOneRename(t *testing.T) {
	for name, store := range map[string]state.Sealer{"file": nil, "sealed": mask{name: "mask"}} {
		t.Run(name, func(t *testing.T) {
			d := reopen(t, open(t), state.WithSealer(store))
			old := enrolled(t, d)
			next := func() error { _, err := d.NextKey(); return err }
			for i, step := range []func() error{next, d.TurnKey, d.TurnBackKey, d.TurnKey, d.SettleKey} {
				seen := watch(t, d, func() {
					if err := step(); err != nil {
						t.Fatal(err)
					}
				})
				seen.oneReplacement(t, "identity.json")
				if seen := watch(t, d, func() {
					if err := step(); err != nil {
						t.Fatal(err)
					}
				}); len(seen) != 0 {
					// After SettleKey there is nothing to repeat; before, repeating must not touch the disk.
					t.Errorf("step %d, repeated, did %v", i, seen)
				}
			}
			if identity(t, d).PrivateKey.Equal(old) {
				t.Error("the key is the old one")
			}
			if st, err := os.Stat(d.Path("identity.json")); err != nil || st.Mode().Perm() != 0o600 {
				t.Errorf("mode %v, %v", st.Mode(), err)
			}
		})
	}
}

func TestRotationOutOfOrder(t *testing.T) {
	d := open(t)
	next := func() error { _, err := d.NextKey(); return err }
	for _, step := range []func() error{next, d.TurnKey, d.TurnBackKey, d.SettleKey, d.Reseal} {
		if err := step(); !errors.Is(err, state.ErrNotEnrolled) {
			t.Errorf("without an identity: %v", err)
		}
	}
	enrolled(t, d)
	for name, c := range map[string]struct {
		prepare []func() error
		step    func() error
		want    error
	}{
		"turn before next":     {nil, d.TurnKey, state.ErrNoNextKey},
		"back before next":     {nil, d.TurnBackKey, state.ErrNoFormerKey},
		"settle before next":   {nil, d.SettleKey, nil},
		"settle before turn":   {[]func() error{next}, d.SettleKey, state.ErrNotTurned},
		"settle turned back":   {[]func() error{next, d.TurnKey, d.TurnBackKey}, d.SettleKey, state.ErrNotTurned},
		"turn after settling":  {[]func() error{next, d.TurnKey, d.SettleKey}, d.TurnKey, state.ErrNoNextKey},
		"back after settling":  {[]func() error{next, d.TurnKey, d.SettleKey}, d.TurnBackKey, state.ErrNoFormerKey},
		"next while it is new": {[]func() error{next, d.TurnKey}, next, nil},
	} {
		for _, p := range c.prepare {
			if err := p(); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		before := identity(t, d)
		if err := c.step(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		after := identity(t, d)
		if c.want != nil && (!after.PrivateKey.Equal(before.PrivateKey) || !after.Next.Equal(before.Next) || !after.Former.Equal(before.Former)) {
			t.Errorf("%s: refused, and yet something changed", name)
		}
		// Settle for the next case.
		for _, end := range []func() error{next, d.TurnKey, d.SettleKey} {
			if err := end(); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
}

// TestRotationModel holds random steps, restarts and moves between key stores against what should come of them.
func TestRotationModel(t *testing.T) {
	dir := t.TempDir()
	runs := 0
	rapid.Check(t, func(rt *rapid.T) {
		runs++
		store := mask{name: "mask"}
		path := filepath.Join(dir, fmt.Sprint(runs))
		d, err := state.Open(path)
		if err != nil {
			rt.Fatal(err)
		}
		defer func() { _ = d.Close() }()
		own := enrolled(t, d)
		var next, former wgkey.PrivateKey
		want := func(err, want error) {
			if !errors.Is(err, want) {
				rt.Fatalf("got %v, want %v", err, want)
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"next": func(rt *rapid.T) {
				pub, err := d.NextKey()
				want(err, nil)
				begun := !next.IsZero() || !former.IsZero()
				if !begun {
					next = identity(t, d).Next
				}
				of := next
				if !former.IsZero() {
					of = own
				}
				if p, err := of.Public(); err != nil || p != pub {
					rt.Fatalf("another key's public half, %v", err)
				}
			},
			"turn": func(*rapid.T) {
				switch err := d.TurnKey(); {
				case !next.IsZero():
					want(err, nil)
					own, next, former = next, wgkey.PrivateKey{}, own
				case !former.IsZero():
					want(err, nil)
				default:
					want(err, state.ErrNoNextKey)
				}
			},
			"back": func(*rapid.T) {
				switch err := d.TurnBackKey(); {
				case !former.IsZero():
					want(err, nil)
					own, next, former = former, own, wgkey.PrivateKey{}
				case !next.IsZero():
					want(err, nil)
				default:
					want(err, state.ErrNoFormerKey)
				}
			},
			"settle": func(*rapid.T) {
				if !next.IsZero() {
					want(d.SettleKey(), state.ErrNotTurned)
					return
				}
				want(d.SettleKey(), nil)
				former = wgkey.PrivateKey{}
			},
			"reseal": func(*rapid.T) { want(d.Reseal(), nil) },
			"restart": func(rt *rapid.T) {
				// With or without the key store for what is written from now on; a cut write has left its successor.
				opts := []state.Option{state.WithUnsealer(store)}
				if rapid.Bool().Draw(rt, "key store") {
					opts = append(opts, state.WithSealer(store))
				}
				_ = d.Close()
				if err := os.WriteFile(filepath.Join(path, ".identity.json1"), []byte("{"), 0o600); err != nil {
					rt.Fatal(err)
				}
				if d, err = state.Open(path, opts...); err != nil {
					rt.Fatal(err)
				}
			},
			"": func(rt *rapid.T) {
				id := identity(t, d)
				if !id.PrivateKey.Equal(own) || !id.Next.Equal(next) || !id.Former.Equal(former) {
					rt.Fatal("the keys are not where they should be")
				}
				if got := names(t, d); !slices.Equal(got, []string{"identity.json", "lock", "netmap.json"}) {
					rt.Fatalf("files %v", got)
				}
			},
		})
	})
}
