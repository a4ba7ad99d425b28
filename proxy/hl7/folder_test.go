package hl7_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/proxy/hl7"
	"github.com/towpath/towpath/proxy/spool"
)

func filed(t *testing.T, cfg hl7.FolderConfig) *hl7.Folder {
	t.Helper()
	f, err := hl7.NewFolder(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestFolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "a", "findings")
		var folder *hl7.Folder
		o := newOnce(t, &far{}, t.TempDir(), hl7.LedgerOptions{}, func(*box) []hl7.Route {
			folder = filed(t, hl7.FolderConfig{Dir: dir, MaxFiles: 3})
			return []hl7.Route{{Service: "results", Mode: hl7.Filed, Folder: folder}}
		})
		var want [][]byte
		for _, id := range []string{"1", "2", "3"} {
			msg := hl7.SampleResult(time.Now(), id, parties("X"))
			want = append(want, msg)
			for range 2 {
				if a := o.send(t, msg); a.Code != hl7.AA {
					t.Fatalf("%+v", a)
				}
			}
		}
		check := func() {
			t.Helper()
			got := readFolder(t, dir)
			if len(got) != len(want) {
				t.Fatalf("%d files, want %d", len(got), len(want))
			}
			for i := range want {
				if !bytes.Equal(got[i], want[i]) {
					t.Errorf("file %d is another message", i)
				}
			}
		}
		check()
		n := o.dial(t)
		n.say(order("4", "X"))
		if got := n.hear(); got != nil || o.counts(t).Unfiled != 1 || o.counts(t).LastUnfiled.IsZero() {
			t.Errorf("the fourth of three: %q, %+v", got, o.counts(t))
		}
		if log := o.log.String(); !strings.Contains(log, "the folder is full") || strings.Contains(log, "Käßmöhler") {
			t.Errorf("log: %s", log)
		}
		// The software collects one file.
		names, err := filepath.Glob(filepath.Join(dir, "*.hl7"))
		if err != nil || os.Remove(names[0]) != nil {
			t.Fatal(err)
		}
		msg := order("5", "X")
		if a := o.send(t, withModes(msg, "AL", "NE")); a.Code != hl7.CA {
			t.Errorf("after one was collected: %+v", a)
		}
		want = append(want[1:], withModes(msg, "AL", "NE"))
		check()
		if a := o.send(t, order("", "X")); a.Code != hl7.AR {
			t.Errorf("without a control ID: %+v", a)
		}
		for _, name := range names {
			if info, err := os.Stat(name); err == nil && info.Mode().Perm() != 0o640 {
				t.Errorf("mode %v", info.Mode())
			}
		}
	})
}

// TestFolderBytes fills a folder by size, with the file of another program.
func TestFolderBytes(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "foreign.pdf"), make([]byte, 900), 0o600); err != nil {
		t.Fatal(err)
	}
	sink := hl7.NewFolderSink(filed(t, hl7.FolderConfig{Dir: dir, MaxBytes: 1000}), openLedger(t, t.TempDir(), hl7.LedgerOptions{}), nil)
	msg := order("1", "X")
	_, err := sink.Deliver(t.Context(), spool.Item{Size: int64(len(msg))}, bytes.NewReader(msg))
	if !errors.Is(err, hl7.ErrFolderFull) {
		t.Errorf("%v", err)
	}
}

// TestFolderAfterACrash finds a file that was remembered but has no name yet, and one that nobody was told of.
func TestFolderAfterACrash(t *testing.T) {
	dir, state := t.TempDir(), t.TempDir()
	ledger := openLedger(t, state, hl7.LedgerOptions{})
	sink := hl7.NewFolderSink(filed(t, hl7.FolderConfig{Dir: dir, Ledger: ledger}), ledger, nil)
	deliver := func(msg []byte) {
		t.Helper()
		if _, err := sink.Deliver(context.Background(), spool.Item{Size: int64(len(msg))}, bytes.NewReader(msg)); err != nil {
			t.Fatal(err)
		}
	}
	one, two := order("1", "X"), order("2", "X")
	deliver(one)
	key := hl7.FolderKey(dir, one)
	names, err := filepath.Glob(filepath.Join(dir, "*.hl7"))
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	// As if the power had gone before the rename; and a second file that the ledger does not know.
	name := filepath.Base(names[0])
	if err := os.Rename(names[0], filepath.Join(dir, "."+key+"-"+name+".tmp")); err != nil {
		t.Fatal(err)
	}
	stray := filepath.Join(dir, "."+hl7.FolderKey(dir, two)+"-20260101T000000.000000000-000001.hl7.tmp")
	if err := os.WriteFile(stray, two[:20], 0o600); err != nil {
		t.Fatal(err)
	}
	foreign := filepath.Join(dir, ".other.tmp")
	if err := os.WriteFile(foreign, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	sink = hl7.NewFolderSink(filed(t, hl7.FolderConfig{Dir: dir, Ledger: ledger}), ledger, nil)
	deliver(one)
	got := readFolder(t, dir)
	if len(got) != 1 || !bytes.Equal(got[0], one) {
		t.Fatalf("%d files", len(got))
	}
	if _, err := os.Stat(stray); err == nil {
		t.Error("the stray file is still there")
	}
	if _, err := os.Stat(foreign); err != nil {
		t.Error("the file of another program is gone")
	}
	deliver(two)
	if got := readFolder(t, dir); len(got) != 2 {
		t.Errorf("%d files", len(got))
	}
}

// upper is a Format: capitals, and the message as it came beside it. It takes nothing that holds "refuse".
type upper struct{ names int }

func (upper) Files(msg []byte, stem string) ([]byte, []hl7.Beside, error) {
	if bytes.Contains(msg, []byte("refuse")) {
		return nil, nil, errors.New("it says refuse")
	}
	return bytes.ToUpper(msg), []hl7.Beside{{Name: stem + "-1.txt", Content: msg}}, nil
}

func (upper) Name(n int) string { return fmt.Sprintf("UP.%03d", n) }

func (u upper) Names() int { return u.names }

func TestFolderWithAFormat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		o := newOnce(t, &far{}, t.TempDir(), hl7.LedgerOptions{}, func(*box) []hl7.Route {
			return []hl7.Route{{Service: "results", Mode: hl7.Filed, Folder: filed(t, hl7.FolderConfig{Dir: dir}), Format: upper{names: 2}}}
		})
		names := func() string {
			entries, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			out := ""
			for _, e := range entries {
				if strings.HasPrefix(e.Name(), "UP") {
					out += e.Name() + " "
				}
			}
			return out + fmt.Sprint(len(entries))
		}
		one := order("one", "X")
		for range 2 {
			if a := o.send(t, one); a.Code != hl7.AA {
				t.Fatalf("%+v", a)
			}
		}
		if got, err := os.ReadFile(filepath.Join(dir, "UP.001")); err != nil || !bytes.Equal(got, bytes.ToUpper(one)) || names() != "UP.001 2" {
			t.Fatalf("%v, %s", err, names())
		}
		if a := o.send(t, order("refuse", "X")); a.Code != hl7.AR || names() != "UP.001 2" {
			t.Fatalf("%+v, %s", a, names())
		}
		if a := o.send(t, order("two", "X")); a.Code != hl7.AA || names() != "UP.001 UP.002 4" {
			t.Fatalf("%+v, %s", a, names())
		}
		// Both names are taken: there is no answer until the software has collected one.
		n := o.dial(t)
		n.say(order("three", "X"))
		if got := n.hear(); got != nil || names() != "UP.001 UP.002 4" {
			t.Fatalf("%q, %s", got, names())
		}
		if err := os.Remove(filepath.Join(dir, "UP.001")); err != nil {
			t.Fatal(err)
		}
		if a := o.send(t, order("three", "X")); a.Code != hl7.AA || names() != "UP.001 UP.002 5" {
			t.Fatalf("%+v, %s", a, names())
		}
	})
}

// TestFolderSinkParksWhatIsUnsuited: trying again would change nothing.
func TestFolderSinkParksWhatIsUnsuited(t *testing.T) {
	sink := hl7.NewFolderSink(filed(t, hl7.FolderConfig{Dir: t.TempDir()}), openLedger(t, t.TempDir(), hl7.LedgerOptions{}), upper{names: 2})
	_, err := sink.Deliver(t.Context(), spool.Item{}, bytes.NewReader(order("refuse", "X")))
	if _, permanent := errors.AsType[*spool.PermanentError](err); !permanent || !errors.Is(err, hl7.ErrUnsuited) {
		t.Fatal(err)
	}
}
