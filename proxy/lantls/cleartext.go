package lantls

import (
	"context"
	"errors"
	"net"
	"sync/atomic"

	"github.com/towpath/towpath/proxy"
)

// Cleartext is a proxy.Handler for a cleartext port that recognizes who speaks TLS there, ends that at once, and says so. Everything else
// is inner's.
type Cleartext struct {
	inner proxy.Handler
	book  *Book
}

// NewCleartext returns one.
func NewCleartext(inner proxy.Handler, book *Book) *Cleartext { return &Cleartext{inner, book} }

// Serve serves one connection.
func (h *Cleartext) Serve(ctx context.Context, c net.Conn) proxy.Result {
	w := &watched{Conn: c}
	res := h.inner.Serve(ctx, w.withCapabilities())
	if !w.tls.Load() {
		return res
	}
	h.book.fail(SourceOf(c), FailTLSOnClear)
	// handshake_failure, fatal, in a record that every version reads (RFC 8446 §5.1, §6.2).
	_, _ = c.Write([]byte{21, 3, 1, 0, 2, 2, 40})
	return proxy.Result{Outcome: proxy.OutcomeRefused, Detail: FailTLSOnClear.Advice()}
}

var errHello = errors.New("a TLS ClientHello where cleartext is spoken")

// watched looks at the first bytes that are read. They come with the first read or never: a ClientHello is one segment, and what a slow
// device sends byte by byte is left to the protocol.
type watched struct {
	net.Conn
	begun bool // belongs to who reads
	tls   atomic.Bool
}

// Read reads.
func (w *watched) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	if w.begun || n == 0 {
		return n, err //nolint:wrapcheck // a net.Conn returns its errors as they are
	}
	w.begun = true
	if hello(b[:n]) {
		w.tls.Store(true)
		return 0, errHello
	}
	return n, err //nolint:wrapcheck // as above
}

// Write writes, but nothing to who speaks TLS.
func (w *watched) Write(b []byte) (int, error) {
	if w.tls.Load() {
		return 0, errHello
	}
	return w.Conn.Write(b) //nolint:wrapcheck // as above
}

// hello reports whether b begins a TLS handshake: no DICOM PDU has the type 22, and no MLLP block begins so.
func hello(b []byte) bool {
	return len(b) >= 3 && b[0] == 22 && b[1] == 3 && b[2] <= 4 || len(b) < 3 && len(b) > 0 && b[0] == 22
}

// withCapabilities keeps CloseWrite where the connection below has it.
func (w *watched) withCapabilities() net.Conn {
	if h, ok := w.Conn.(halfCloser); ok {
		return struct {
			*watched
			halfCloser
		}{w, h}
	}
	return w
}

type halfCloser interface{ CloseWrite() error }
