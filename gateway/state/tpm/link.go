package tpm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// headerSize is that of every answer: tag, size, code (TPM 2.0 Part 1, "Response Header").
	headerSize = 10
	// maxAnswer is the kernel's TPM_BUFSIZE.
	maxAnswer = 4096
	// busyPause is how long to wait before a TPM that others use is tried again.
	busyPause = 10 * time.Millisecond
)

// link sends commands to a TPM, one at a time.
type link struct{ conn io.ReadWriteCloser }

// connect opens the device or socket. Others may use it meanwhile: the kernel's /dev/tpm0 takes one program, a software TPM one
// connection.
func connect(path string, patience time.Duration) (*link, error) {
	end := time.Now().Add(patience)
	for {
		conn, err := open(path, end)
		if err == nil {
			return &link{conn}, nil
		}
		if !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.EAGAIN) || time.Now().After(end) {
			return nil, unreachable(err)
		}
		<-time.After(busyPause)
	}
}

func open(path string, end time.Time) (io.ReadWriteCloser, error) {
	st, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case st.Mode()&os.ModeSocket != 0:
		d := net.Dialer{Deadline: end}
		conn, err := d.Dial("unix", path)
		if err != nil {
			return nil, err
		}
		return conn, conn.SetDeadline(end)
	case st.Mode()&os.ModeDevice == 0:
		return nil, fmt.Errorf("%w: it is no device and no socket", ErrNoTPM)
	}
	// Not os.OpenFile, which makes devices non-blocking: then the kernel would have us poll for the answer. It has time limits of its own.
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

// unreachable says in our words why a TPM cannot be opened.
func unreachable(err error) error {
	switch {
	case errors.Is(err, ErrNoTPM):
		return err
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: %w", ErrNoAccess, err)
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EAGAIN), errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("%w: %w", ErrBusy, err)
	}
	return fmt.Errorf("%w: %w", ErrNoTPM, err)
}

// Send implements transport.TPM. A device gives the whole answer at the first read, and would drop the rest; a socket may not.
func (l *link) Send(command []byte) ([]byte, error) {
	if _, err := l.conn.Write(command); err != nil {
		return nil, fmt.Errorf("send a command to the TPM: %w", err)
	}
	buf := make([]byte, maxAnswer)
	for n := 0; ; {
		got, err := l.conn.Read(buf[n:])
		n += got
		if n >= headerSize {
			size := int(binary.BigEndian.Uint32(buf[2:]))
			if size < headerSize || size > maxAnswer || n > size {
				return nil, fmt.Errorf("%w: what answers does not speak its language", ErrNoTPM)
			}
			if n == size {
				return buf[:n], nil
			}
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, fmt.Errorf("%w: no answer in time: %w", ErrBusy, err)
		case err == nil && got == 0, errors.Is(err, io.EOF):
			return nil, fmt.Errorf("%w: it hung up without an answer", ErrNoTPM)
		case err != nil:
			return nil, fmt.Errorf("read the TPM's answer: %w", err)
		}
	}
}
