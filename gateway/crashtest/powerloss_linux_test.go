package crashtest

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/proxy/spool/seal"
)

// What TestPowerLoss of images/vmtest reads on the machine's line.
const (
	lineAcked   = "ACKNOWLEDGED"
	lineArrived = "ARRIVED"
	lineUnsaved = "UNSAVED"
)

// unsaved is what a control file would hold that nobody has synced, in bytes.
const unsaved = 300_000

// TestInsideOfPowerLoss is the inside of TestPowerLoss of images/vmtest, which ends the machine at a moment of its choice and starts it again with the
// same disk: the first time a modality sends to the clinic's box until the machine is gone, the second time the box sends on what it has.
func TestInsideOfPowerLoss(t *testing.T) {
	if _, err := os.Stat(inMachine); err != nil {
		t.Skip("SKIPPED: the machine that it is in loses its power; it is run by TestPowerLoss of images/vmtest")
	}
	disk := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("/dev/vda", disk, "ext4", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Unmount(disk, 0) }()
	key, again, err := keyOn(disk)
	if err != nil {
		t.Fatal(err)
	}
	pacs, err := newPACS("127.0.0.2")
	if err != nil {
		t.Fatal(err)
	}
	box := func(name, dir, far string) *site {
		s := &site{receipts: map[string]bool{}, cfg: boxConfig{
			Name: name, Host: "127.0.0.1", Dir: filepath.Join(dir, name), Key: key, Seed: bytes.Repeat([]byte{9}, 32), Quiet: true,
			Far: far, FarHL7: far, PACS: pacs.address, HIS: far,
		}}
		if err := os.Mkdir(s.cfg.Dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			t.Fatal(err)
		}
		if err := s.start(); err != nil {
			t.Fatalf("%v\n%s", err, s.said(portraitLog))
		}
		return s
	}
	const nowhere = "127.0.0.1:1"
	if !again {
		clinic := box("clinic", disk, nowhere)
		if err := os.WriteFile(filepath.Join(disk, "control"), bytes.Repeat([]byte{1}, unsaved), 0o600); err != nil {
			t.Fatal(err)
		}
		sendUntilTheEnd(clinic)
	}
	left, err := os.ReadFile(filepath.Join(disk, "control"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	fmt.Println(lineUnsaved, bytes.Count(left, []byte{1}), unsaved)
	center := box("center", t.TempDir(), nowhere)
	clinic := box("clinic", disk, center.at())
	deadline := time.Now().Add(time.Minute)
	for {
		n, ok := clinic.now.ask()
		if ok && n.empty() {
			break
		}
		if time.Now().After(deadline) || n.Parked > 0 {
			t.Fatalf("the clinic's box still has %+v:\n%s", n, clinic.said(portraitLog))
		}
		<-time.After(20 * time.Millisecond)
	}
	for _, sums := range pacs.everything() {
		for _, sum := range sums {
			fmt.Println(lineArrived, hex.EncodeToString(sum[:]))
		}
	}
	clinic.now.kill()
	center.now.kill()
}

// keyOn returns the key of the queue on a disk, synced, and whether it was there.
func keyOn(disk string) (secret []byte, again bool, err error) {
	path := filepath.Join(disk, "key")
	if secret, err = os.ReadFile(path); err == nil {
		return secret, true, nil
	}
	key, err := seal.NewPrivateKey()
	if err != nil {
		return nil, false, err
	}
	if secret, err = key.RevealBytes(); err != nil {
		return nil, false, err
	}
	if err = os.WriteFile(path, secret, 0o600); err == nil {
		unix.Sync()
	}
	return secret, false, err
}

// sendUntilTheEnd says each object's digest when the box has said success for it.
func sendUntilTheEnd(clinic *site) {
	for seed := uint64(1); ; seed++ {
		sums := map[string]string{}
		done := make(chan struct{})
		m := &modality{objects: makeObjects(seed, rand.New(rand.NewPCG(seed, 2))), address: clinic.at, pauses: func() time.Duration { return time.Millisecond }}
		for _, o := range m.objects {
			sums[o.uid] = hex.EncodeToString(o.sum[:])
		}
		left := len(m.objects)
		m.onAck = func(uid string) {
			fmt.Println(lineAcked, sums[uid])
			if left--; left == 0 {
				close(done)
			}
		}
		m.start()
		<-done
	}
}
