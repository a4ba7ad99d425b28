package tpmtest

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
)

// TPM is a running software TPM with a state of its own.
type TPM struct {
	// Path is its unix socket.
	Path string

	t   testing.TB
	dir string
	cmd *exec.Cmd
	log *bytes.Buffer
}

// Start makes and starts a TPM that ends with the test. Without swtpm the test is skipped.
func Start(t testing.TB) *TPM {
	t.Helper()
	if _, err := exec.LookPath("swtpm"); err != nil {
		t.Skip("swtpm is not installed: what needs a TPM was not tested")
	}
	dir, err := os.MkdirTemp("", "tpm") //nolint:usetesting // the path of a unix socket must be short
	if err != nil {
		t.Fatal(err)
	}
	v := &TPM{Path: filepath.Join(dir, "socket"), t: t, dir: dir}
	t.Cleanup(func() {
		v.stop()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	v.start()
	return v
}

func (v *TPM) start() {
	v.t.Helper()
	v.log = &bytes.Buffer{}
	v.cmd = exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+v.dir, "--server", "type=unixio,path="+v.Path,
		"--flags", "not-need-init,startup-clear")
	v.cmd.Stdout, v.cmd.Stderr = v.log, v.log
	if err := v.cmd.Start(); err != nil {
		v.t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		conn, err := net.Dial("unix", v.Path)
		if err == nil {
			_ = conn.Close()
			return
		}
		if time.Now().After(deadline) {
			v.stop()
			v.t.Fatalf("swtpm does not answer: %v\n%s", err, v.log)
		}
	}
}

func (v *TPM) stop() {
	_ = v.cmd.Process.Kill()
	_ = v.cmd.Wait()
	_ = os.Remove(v.Path)
}

// Restart is what a TPM sees of its machine's restart: it forgets what is loaded, and its PCRs begin anew.
func (v *TPM) Restart() {
	v.t.Helper()
	v.stop()
	v.start()
}

// Clear gives the TPM a new owner: everything that was sealed is lost (TPM2_Clear).
func (v *TPM) Clear() {
	v.t.Helper()
	if _, err := (tpm2.Clear{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHLockout, Auth: tpm2.PasswordAuth(nil)}}).Execute(v); err != nil {
		v.t.Fatal(err)
	}
}

// SetOwnerPassword protects the owner hierarchy, as other software may have done.
func (v *TPM) SetOwnerPassword(password string) {
	v.t.Helper()
	cmd := tpm2.HierarchyChangeAuth{
		AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
		NewAuth:    tpm2.TPM2BAuth{Buffer: []byte(password)},
	}
	if _, err := cmd.Execute(v); err != nil {
		v.t.Fatal(err)
	}
}

// Extend changes a PCR of the SHA-256 bank, as starting other software does.
func (v *TPM) Extend(pcr uint, event string) {
	v.t.Helper()
	digest := sha256.Sum256([]byte(event))
	cmd := tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(pcr), Auth: tpm2.PasswordAuth(nil)},
		Digests: tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{
			HashAlg: tpm2.TPMAlgSHA256, Digest: digest[:],
		}}},
	}
	if _, err := cmd.Execute(v); err != nil {
		v.t.Fatal(err)
	}
}

// DropBank restarts the TPM without PCRs of SHA-256, as some firmware sets it up. The library has no TPM2_PCR_Allocate.
func (v *TPM) DropBank() {
	v.t.Helper()
	answer, err := v.Send([]byte{
		0x80, 0x02, 0, 0, 0, 37, 0, 0, 0x01, 0x2b, // with authorization, size, TPM_CC_PCR_Allocate
		0x40, 0, 0, 0x0c, // the platform hierarchy
		0, 0, 0, 9, 0x40, 0, 0, 0x09, 0, 0, 0, 0, 0, // its empty password
		0, 0, 0, 1, 0, 0x0b, 3, 0, 0, 0, // one bank, SHA-256, with no PCR
	})
	if err != nil || !bytes.Equal(answer[6:10], []byte{0, 0, 0, 0}) {
		v.t.Fatalf("TPM2_PCR_Allocate: %x, %v", answer, err)
	}
	v.Restart()
}

// Loaded counts the objects and sessions in the TPM's memory.
func (v *TPM) Loaded() int {
	v.t.Helper()
	n := 0
	for _, kind := range []tpm2.TPMHandle{0x80000000, 0x02000000, 0x03000000} { // transient objects, loaded and saved sessions
		r, err := tpm2.GetCapability{Capability: tpm2.TPMCapHandles, Property: uint32(kind), PropertyCount: 64}.Execute(v)
		if err != nil {
			v.t.Fatal(err)
		}
		h, err := r.CapabilityData.Data.Handles()
		if err != nil {
			v.t.Fatal(err)
		}
		n += len(h.Handle)
	}
	return n
}

// Persistent counts the objects that were stored in the TPM.
func (v *TPM) Persistent() int {
	v.t.Helper()
	r, err := tpm2.GetCapability{Capability: tpm2.TPMCapHandles, Property: 0x81000000, PropertyCount: 64}.Execute(v)
	if err != nil {
		v.t.Fatal(err)
	}
	h, err := r.CapabilityData.Data.Handles()
	if err != nil {
		v.t.Fatal(err)
	}
	return len(h.Handle)
}

// Send implements transport.TPM for the methods above, with a connection for each command.
func (v *TPM) Send(command []byte) ([]byte, error) {
	conn, err := net.Dial("unix", v.Path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return nil, err
	}
	if _, err := conn.Write(command); err != nil {
		return nil, err
	}
	header := make([]byte, 10)
	if _, err := io.ReadFull(conn, header); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(header[2:])
	if size < 10 || size > 4096 {
		return nil, errors.New("swtpm sent an impossible size")
	}
	answer := append(header, make([]byte, size-10)...)
	_, err = io.ReadFull(conn, answer[10:])
	return answer, err
}
