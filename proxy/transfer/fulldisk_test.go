package transfer

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// fullFile accepts no byte, as a file on a full disk.
func fullFile(t *testing.T) *os.File {
	t.Helper()
	f, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("SKIPPED: this system has no file that is always full: %v", err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// What the journal could not write is not in it, neither now nor after a restart, and it says so; what it had stays.
func TestJournalOnAFullDisk(t *testing.T) {
	dir := t.TempDir()
	j, err := openJournal(dir)
	if err != nil {
		t.Fatal(err)
	}
	kept, lost := numbered(t, Taken, 1), numbered(t, Taken, 2)
	if err := j.addReceipt(kept); err != nil {
		t.Fatal(err)
	}
	good := j.file
	j.file = fullFile(t)
	if err := j.addReceipt(lost); !errors.Is(err, ErrFull) {
		t.Errorf("a full disk is called %v", err)
	}
	// Such a file cannot be cut back to what it had: nothing may be appended behind a torn record.
	j.file = good
	if err := j.addReceipt(lost); err == nil || !strings.Contains(err.Error(), "restarted") {
		t.Errorf("the journal goes on behind a record that may be torn: %v", err)
	}
	if _, there := j.get(lost.key()); there || j.count() != 1 {
		t.Errorf("%d entries, the lost one: %v", j.count(), there)
	}
	if err := j.close(); err != nil {
		t.Fatal(err)
	}
	if j, err = openJournal(dir); err != nil {
		t.Fatal(err)
	}
	if _, there := j.get(kept.key()); !there || j.count() != 1 {
		t.Errorf("after a restart: %d entries, the kept one: %v", j.count(), there)
	}
	if err := errors.Join(j.addReceipt(lost), j.close()); err != nil {
		t.Errorf("after a restart: %v", err)
	}
}

// A journal that cannot be written anew keeps its file: here something is in the way of the new one.
func TestJournalThatCannotBeRewritten(t *testing.T) {
	dir := t.TempDir()
	j, err := openJournal(dir)
	if err != nil {
		t.Fatal(err)
	}
	inTheWay := filepath.Join(dir, "journal.new")
	if err := os.Mkdir(inTheWay, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := j.addReceipt(numbered(t, Taken, 1)); err != nil {
		t.Fatal(err)
	}
	j.mu.Lock()
	err = j.rewriteLocked()
	j.mu.Unlock()
	if err == nil {
		t.Error("it was written anew")
	}
	if err := errors.Join(j.addReceipt(numbered(t, Taken, 2)), j.close()); err != nil {
		t.Fatal(err)
	}
	if _, err := openJournal(dir); err == nil {
		t.Error("it was opened although it cannot be written")
	}
	if err := os.Remove(inTheWay); err != nil {
		t.Fatal(err)
	}
	if j, err = openJournal(dir); err != nil || j.count() != 2 {
		t.Fatalf("%v", err)
	}
	_ = j.close()
}

// A partial item that cannot be written says that the disk is full, and claims no byte to be durable that is not.
func TestPartialItemOnAFullDisk(t *testing.T) {
	dir, secret, k := t.TempDir(), bytes.Repeat([]byte{3}, 32), Origin{Node: "a"}.key()
	p, err := openPartFolder(dir, secret, 1<<20, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	f, err := p.open(k, 1000)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.writeAt(make([]byte, 500), 0), f.sync(500)); err != nil {
		t.Fatal(err)
	}
	good := f.file
	f.file = fullFile(t)
	if err := f.writeAt(make([]byte, 500), 500); !errors.Is(err, ErrFull) {
		t.Errorf("a full disk is called %v", err)
	}
	if err := f.sync(1000); err == nil || f.synced != 500 {
		t.Errorf("synced to %d: %v", f.synced, err)
	}
	f.file = good
	f.close(false)
	if f, err = p.open(k, 1000); err != nil || f.synced != 500 {
		t.Fatalf("it goes on at %d: %v", f.synced, err)
	}
	f.close(true)

	// A folder that is gone is no partial item, and nothing is counted for it.
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := p.open(k, 1000); err == nil || !strings.Contains(err.Error(), "gone") || p.used != 0 {
		t.Errorf("%d bytes counted: %v", p.used, err)
	}
}
