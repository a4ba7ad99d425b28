package tpm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestUnreachable(t *testing.T) {
	for _, c := range []struct{ err, want error }{
		{fs.ErrNotExist, ErrNoTPM},
		{unix.ENXIO, ErrNoTPM},
		{unix.ECONNREFUSED, ErrNoTPM},
		{unix.EACCES, ErrNoAccess},
		{unix.EPERM, ErrNoAccess},
		{unix.EBUSY, ErrBusy},
		{unix.EAGAIN, ErrBusy},
		{os.ErrDeadlineExceeded, ErrBusy},
	} {
		err := unreachable(&os.PathError{Op: "open", Path: "x", Err: c.err})
		if !errors.Is(err, c.want) || !errors.Is(err, c.err) {
			t.Errorf("%v became %v, want %v", c.err, err, c.want)
		}
	}
}

// TestTPMThatNeverAnswers takes what another program's long use of a software TPM looks like.
func TestTPMThatNeverAnswers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := &Sealer{path: path, patience: 20 * time.Millisecond}
	if _, err := s.Unseal(sealedParts().encode()); !errors.Is(err, ErrBusy) {
		t.Errorf("got %v, want ErrBusy", err)
	}
}

// replies is a TPM that answers as it is told, whatever it is asked.
type replies struct {
	answers []byte
	step    int
}

func (r *replies) Write(p []byte) (int, error) { return len(p), nil }

func (r *replies) Read(p []byte) (int, error) {
	if len(r.answers) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), r.step)], r.answers)
	r.answers = r.answers[n:]
	return n, nil
}

func (r *replies) Close() error { return nil }

func TestAnswersInPieces(t *testing.T) {
	answer := append([]byte{0x80, 1, 0, 0, 0, 14, 0, 0, 0, 0}, "data"...)
	for step := 1; step <= len(answer); step++ {
		got, err := (&link{&replies{answers: answer, step: step}}).Send(nil)
		if err != nil || !bytes.Equal(got, answer) {
			t.Errorf("in pieces of %d: %x, %v", step, got, err)
		}
	}
	for name, bad := range map[string][]byte{
		"cut":      answer[:13],
		"too long": append(bytes.Clone(answer), 0),
		"size 9":   {0x80, 1, 0, 0, 0, 9, 0, 0, 0, 0},
		"size 4GB": {0x80, 1, 255, 255, 255, 255, 0, 0, 0, 0},
		"nothing":  nil,
	} {
		if _, err := (&link{&replies{answers: bad, step: 64}}).Send(nil); !errors.Is(err, ErrNoTPM) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// framed cuts data into answers that begin as a TPM's do.
func framed(data []byte) []byte {
	var out []byte
	for len(data) > 0 {
		n := min(len(data), 1+int(data[0])*4)
		tag := []byte{0x80, 1 + data[0]&1}
		body := data[:n]
		out = append(out, tag...)
		out = append(out, 0, 0, byte((n+headerSize)>>8), byte(n+headerSize), 0, 0, 0, 0)
		out = append(out, body...)
		data = data[n:]
	}
	return out
}

// FuzzAnswers has a TPM that is broken, or not one: nothing it says may be more than an error.
func FuzzAnswers(f *testing.F) {
	f.Add([]byte{}, uint16(4096))
	f.Add([]byte{0x80, 1, 0, 0, 0, 10, 0, 0, 0, 0}, uint16(1))
	f.Add([]byte{0x80, 1, 0, 0, 0, 10, 0, 0, 1, 0x1f}, uint16(10))
	f.Add(bytes.Repeat([]byte{20, 0, 0, 0}, 200), uint16(4096))
	f.Fuzz(func(t *testing.T, data []byte, step uint16) {
		data = data[:min(len(data), 2*maxAnswer)]
		for _, answers := range [][]byte{data, framed(data)} {
			talk := func() *link { return &link{&oneByOne{rest: answers, step: int(step%4096) + 1}} }
			if err := identify(talk()); err == nil && len(answers) < headerSize {
				t.Fatal("identified without an answer")
			}
			if _, err := seal(talk(), 1<<7, make([]byte, 32)); err == nil {
				t.Fatal("sealed by a TPM that made everything up")
			}
			if _, err := unseal(talk(), sealedParts()); err == nil {
				t.Fatal("unsealed by a TPM that made everything up")
			}
		}
	})
}

// oneByOne gives each command one answer of the rest, as its size says.
type oneByOne struct {
	rest, now []byte
	step      int
}

func (o *oneByOne) Write(p []byte) (int, error) {
	o.now = o.rest
	if len(o.rest) >= headerSize {
		n := min(len(o.rest), int(o.rest[4])<<8|int(o.rest[5]))
		o.now, o.rest = o.rest[:n], o.rest[n:]
	} else {
		o.rest = nil
	}
	return len(p), nil
}

func (o *oneByOne) Read(p []byte) (int, error) {
	if len(o.now) == 0 {
		return 0, fmt.Errorf("no more: %w", io.EOF)
	}
	n := copy(p[:min(len(p), o.step)], o.now)
	o.now = o.now[n:]
	return n, nil
}

func (o *oneByOne) Close() error { return nil }
