package tpm_test

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/towpath/towpath/gateway/state/tpm"
	"github.com/towpath/towpath/gateway/state/tpm/tpmtest"
)

func open(t *testing.T, path string, pcr ...uint) *tpm.Sealer {
	t.Helper()
	s, err := tpm.Open(path, pcr...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func secret(t *testing.T, size int) []byte {
	t.Helper()
	b := make([]byte, size)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return b
}

func seal(t *testing.T, s *tpm.Sealer, secret []byte) []byte {
	t.Helper()
	sealed, err := s.Seal(secret)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

// opens wants the secret.
func opens(t *testing.T, s *tpm.Sealer, sealed, want []byte) {
	t.Helper()
	if got, err := s.Unseal(sealed); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("unsealed %d bytes (equal: %v), %v", len(got), bytes.Equal(got, want), err)
	}
}

// refuses wants an error and nothing of the secret.
func refuses(t *testing.T, s *tpm.Sealer, sealed []byte, want error) {
	t.Helper()
	if got, err := s.Unseal(sealed); !errors.Is(err, want) || len(got) != 0 {
		t.Fatalf("unsealed %d bytes with %v, want nothing and %v", len(got), err, want)
	}
}

func TestRoundTrip(t *testing.T) {
	v := tpmtest.Start(t)
	s := open(t, v.Path)
	for _, size := range []int{1, 32, 64, tpm.MaxSecret} {
		want := secret(t, size)
		sealed := seal(t, s, want)
		if size >= 32 && bytes.Contains(sealed, want) {
			t.Errorf("%d bytes are in what was sealed", size)
		}
		if len(sealed) > 1024 {
			t.Errorf("%d bytes became %d", size, len(sealed))
		}
		opens(t, s, sealed, want)
	}
	for _, size := range []int{0, tpm.MaxSecret + 1} {
		if _, err := s.Seal(make([]byte, size)); !errors.Is(err, tpm.ErrSize) {
			t.Errorf("a secret of %d bytes: %v", size, err)
		}
	}
	if n := v.Persistent(); n != 0 {
		t.Errorf("%d objects were stored in the TPM", n)
	}
}

func TestSealedSurvivesARestart(t *testing.T) {
	v := tpmtest.Start(t)
	want := secret(t, 32)
	sealed := seal(t, open(t, v.Path), want)
	v.Restart()
	opens(t, open(t, v.Path), sealed, want)
}

func TestOtherTPMRefuses(t *testing.T) {
	sealed := seal(t, open(t, tpmtest.Start(t).Path), secret(t, 32))
	other := tpmtest.Start(t)
	refuses(t, open(t, other.Path), sealed, tpm.ErrOtherTPM)
	if n := other.Loaded(); n != 0 {
		t.Errorf("%d objects and sessions were left in the TPM", n)
	}
}

func TestClearedTPMRefuses(t *testing.T) {
	v := tpmtest.Start(t)
	s := open(t, v.Path)
	sealed := seal(t, s, secret(t, 32))
	v.Clear()
	refuses(t, s, sealed, tpm.ErrOtherTPM)
}

func TestPCRs(t *testing.T) {
	v := tpmtest.Start(t)
	bound, free, want := open(t, v.Path, 7, 16, 7), open(t, v.Path), secret(t, 32)
	sealed, loose := seal(t, bound, want), seal(t, free, want)
	opens(t, bound, sealed, want)
	opens(t, free, sealed, want) // what is sealed knows its PCRs
	v.Extend(8, "not ours")
	opens(t, bound, sealed, want)
	v.Extend(16, "another image")
	refuses(t, bound, sealed, tpm.ErrPCR)
	refuses(t, free, sealed, tpm.ErrPCR)
	opens(t, bound, loose, want)
	// Who leaves the policy out of what is stored gets no further: the TPM knows it.
	naked := bytes.Clone(sealed)
	binary.BigEndian.PutUint32(naked[4:], 0)
	if got, err := free.Unseal(signed(naked)); err == nil || len(got) != 0 {
		t.Errorf("without its policy: %d bytes, %v", len(got), err)
	}
	v.Restart()
	opens(t, bound, sealed, want) // as it was when it was sealed
	if n := v.Loaded(); n != 0 {
		t.Errorf("%d objects and sessions were left in the TPM", n)
	}
	if _, err := tpm.Open(v.Path, 24); err == nil {
		t.Error("PCR 24 was accepted")
	}
}

// TestNoBank: a TPM leaves PCRs out that it does not have, and the policy would be kept by whatever starts.
func TestNoBank(t *testing.T) {
	v := tpmtest.Start(t)
	v.DropBank()
	if sealed, err := open(t, v.Path, 7).Seal(secret(t, 32)); err == nil || len(sealed) != 0 {
		t.Errorf("sealed to a PCR that is not there: %d bytes, %v", len(sealed), err)
	}
	s, want := open(t, v.Path), secret(t, 32)
	opens(t, s, seal(t, s, want), want)
}

// signed puts the right checksum at the end, as somebody would who wants to deceive.
func signed(b []byte) []byte {
	body := b[:len(b)-4]
	return binary.BigEndian.AppendUint32(bytes.Clone(body), crc32.ChecksumIEEE(body))
}

func TestDamage(t *testing.T) {
	v := tpmtest.Start(t)
	s := open(t, v.Path)
	want := secret(t, 32)
	sealed := seal(t, s, want)
	for n := range sealed {
		refuses(t, s, sealed[:n], tpm.ErrDamaged)
		changed := bytes.Clone(sealed)
		changed[n] ^= 1
		refuses(t, s, changed, tpm.ErrDamaged)
	}
	refuses(t, s, append(bytes.Clone(sealed), 0), tpm.ErrDamaged)
	step := 1
	if testing.Short() {
		step = 7
	}
	for n := 0; n < len(sealed)-4; n += step {
		changed := bytes.Clone(sealed)
		changed[n] ^= 1
		got, err := s.Unseal(signed(changed))
		if err == nil || len(got) != 0 {
			t.Errorf("with byte %d changed: %d bytes, %v", n, len(got), err)
		}
		if n >= 8 && !errors.Is(err, tpm.ErrDamaged) && !errors.Is(err, tpm.ErrOtherTPM) {
			t.Errorf("with byte %d changed: %v", n, err)
		}
	}
	opens(t, s, sealed, want)
	if n := v.Loaded(); n != 0 {
		t.Errorf("%d objects and sessions were left in the TPM", n)
	}
}

func TestOwnerPassword(t *testing.T) {
	v := tpmtest.Start(t)
	s := open(t, v.Path)
	sealed := seal(t, s, secret(t, 32))
	v.SetOwnerPassword("somebody's")
	refuses(t, s, sealed, tpm.ErrOwnerPassword)
	if _, err := s.Seal(secret(t, 32)); !errors.Is(err, tpm.ErrOwnerPassword) {
		t.Error(err)
	}
}

func TestConcurrentUse(t *testing.T) {
	v := tpmtest.Start(t)
	// Two sealers are what two processes are.
	sealers := []*tpm.Sealer{open(t, v.Path), open(t, v.Path), open(t, v.Path, 7)}
	var wg sync.WaitGroup
	for n := range 12 {
		s, want := sealers[n%len(sealers)], secret(t, 32)
		wg.Go(func() {
			sealed, err := s.Seal(want)
			if err != nil {
				t.Error(err)
				return
			}
			if got, err := sealers[(n+1)%len(sealers)].Unseal(sealed); err != nil || !bytes.Equal(got, want) {
				t.Errorf("unsealed %d bytes, %v", len(got), err)
			}
		})
	}
	wg.Wait()
	if n := v.Loaded(); n != 0 {
		t.Errorf("%d objects and sessions were left in the TPM", n)
	}
}

// TestNothingReadableOnTheBus listens between the sealer and the TPM, as a probe on the chip's pins does.
func TestNothingReadableOnTheBus(t *testing.T) {
	v := tpmtest.Start(t)
	for name, pcr := range map[string][]uint{"free": nil, "bound": {7}} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(filepath.Dir(v.Path), name)
			heard, commands := probe(t, v.Path, path)
			s, want := open(t, path, pcr...), secret(t, 32)
			opens(t, s, seal(t, s, want), want)
			all := heard()
			if len(all) < 1000 {
				t.Fatalf("the probe heard %d bytes only", len(all))
			}
			for n := range len(want) - 7 {
				if bytes.Contains(all, want[n:n+8]) {
					t.Fatalf("bytes %d to %d of the secret crossed the bus", n, n+8)
				}
			}
			// Encrypted with what? A session without a salt has a key that follows from what the probe heard.
			if sessions := salted(t, commands()); sessions != 3 {
				t.Errorf("%d salted sessions, want one to seal, one to load and one to unseal", sessions)
			}
		})
	}
}

// salted counts the sessions that commands start, and wants each to have a salt that only the TPM can read, except those that only
// compute (TPM 2.0 Part 3, TPM2_StartAuthSession).
func salted(t *testing.T, commands []byte) int {
	t.Helper()
	const startAuthSession, trial, null = 0x176, 3, 0x40000007
	sessions := 0
	for b := commands; len(b) >= 10; {
		size := binary.BigEndian.Uint32(b[2:])
		if binary.BigEndian.Uint32(b[6:]) == startAuthSession {
			key, rest := binary.BigEndian.Uint32(b[10:]), b[18:]
			rest = rest[2+binary.BigEndian.Uint16(rest):] // our nonce
			salt := binary.BigEndian.Uint16(rest)
			if kind := rest[2+salt]; kind != trial {
				sessions++
				if key == null || salt < 32 {
					t.Errorf("a session has a salt of %d bytes for key %#x", salt, key)
				}
			}
		}
		b = b[size:]
	}
	return sessions
}

// probe relays to a TPM what comes to a socket at path, and hears everything.
func probe(t *testing.T, to, path string) (heard, commands func() []byte) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var both, sent recording
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("unix", to)
			if err != nil {
				t.Error(err)
				_ = near.Close()
				return
			}
			wg.Go(func() {
				_, _ = io.Copy(far, io.TeeReader(near, io.MultiWriter(&both, &sent)))
				_ = far.Close()
			})
			wg.Go(func() {
				_, _ = io.Copy(near, io.TeeReader(far, &both))
				_ = near.Close()
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	return both.bytes, sent.bytes
}

// recording is what a probe heard.
type recording struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (r *recording) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.Write(p)
}

func (r *recording) bytes() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return bytes.Clone(r.buf.Bytes())
}

func TestNoTPM(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(dir, "none"), file, dir, os.DevNull, "/dev/zero"} {
		if _, err := tpm.Open(path); !errors.Is(err, tpm.ErrNoTPM) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestTPMThatEndsMeanwhile(t *testing.T) {
	v := tpmtest.Start(t)
	s := open(t, v.Path)
	sealed := seal(t, s, secret(t, 32))
	if err := os.Remove(v.Path); err != nil {
		t.Fatal(err)
	}
	refuses(t, s, sealed, tpm.ErrNoTPM)
}
