package transfer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/towpath/towpath/proxy/codec"
)

const (
	// wholeItem is the longest payload that is read into memory in one go, rawBlock the length of a block without codec.
	wholeItem = 1 << 20
	rawBlock  = 256 << 10
	// rewindBytes are kept of what was read, for workers that read nearly in order.
	rewindBytes = 6 << 20
)

// source is the payload of an item, cut into blocks.
type source struct {
	size   int64
	r      io.ReaderAt
	closer io.Closer
	enc    *codec.Encoding // nil: blocks are raw
}

// openSource opens a payload. With a codec it is looked at to find what can be predicted.
func openSource(p Parcel, cdc *codec.Codec) (*source, error) {
	it := p.Item()
	s := &source{size: it.Size}
	if err := s.open(p, it.Size); err != nil {
		return nil, fmt.Errorf("read the item: %w", err)
	}
	if cdc == nil || it.Size > codec.MaxObject {
		return s, nil
	}
	enc, err := cdc.Plan(s.r, it.Size, codec.Hints{TransferSyntax: it.Attributes[AttributeSyntax], Digest: &it.SHA256})
	if err != nil {
		s.close()
		return nil, fmt.Errorf("read the item: %w", err)
	}
	if !enc.Compressed() {
		s.enc = enc
	}
	return s, nil
}

// AttributeSyntax is the attribute that tells the codec a data set's transfer syntax.
const AttributeSyntax = "transfer_syntax"

func (s *source) open(p Parcel, size int64) error {
	r, err := p.Open()
	if err != nil {
		return err //nolint:wrapcheck // the caller does
	}
	if at, ok := r.(io.ReaderAt); ok && size > wholeItem {
		s.r, s.closer = at, r
		return nil
	}
	if size > wholeItem {
		w := &rewinder{open: p.Open, r: r, size: size}
		s.r, s.closer = w, w
		return nil
	}
	defer r.Close()
	b := make([]byte, size)
	if _, err := io.ReadFull(r, b); err != nil {
		return err //nolint:wrapcheck // the caller does
	}
	if err := wantEOF(r); err != nil {
		return err
	}
	s.r = bytes.NewReader(b)
	return nil
}

// wantEOF has a reader that checks a digest do so.
func wantEOF(r io.Reader) error {
	var b [1]byte
	n, err := r.Read(b[:])
	switch {
	case n > 0:
		return fmt.Errorf("%w: the payload is longer than announced", ErrDamaged)
	case err == nil, errors.Is(err, io.EOF):
		return nil
	}
	return err //nolint:wrapcheck // the caller does
}

func (s *source) close() {
	if s.closer != nil {
		s.closer.Close()
	}
}

func (s *source) blocks() int {
	if s.enc != nil {
		return s.enc.Header().Blocks
	}
	return int((s.size + rawBlock - 1) / rawBlock)
}

func (s *source) block(i int) (offset int64, size int) {
	if s.enc != nil {
		return s.enc.Block(i)
	}
	offset = int64(i) * rawBlock
	return offset, int(min(rawBlock, s.size-offset))
}

// raw reads a block as it is.
func (s *source) raw(i int) ([]byte, error) {
	offset, size := s.block(i)
	b := make([]byte, size)
	if n, err := s.r.ReadAt(b, offset); n < size {
		return nil, fmt.Errorf("read the item: %w", err)
	}
	return b, nil
}

// rewinder makes an io.ReaderAt of what can only be read from its start. Reading nearly in order costs nothing, going back far begins anew.
type rewinder struct {
	open func() (io.ReadCloser, error)
	size int64

	mu     sync.Mutex
	r      io.ReadCloser
	kept   []byte // what was read last
	from   int64  // where kept begins
	closed bool
}

// ReadAt reads a part of the payload.
func (w *rewinder) ReadAt(b []byte, at int64) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return 0, errClosed
	}
	if at < 0 || at >= w.size {
		return 0, io.EOF
	}
	if at < w.from {
		if err := w.restart(); err != nil {
			return 0, err
		}
	}
	end := min(at+int64(len(b)), w.size)
	for w.from+int64(len(w.kept)) < end {
		if err := w.more(at); err != nil {
			return 0, err
		}
	}
	n := copy(b, w.kept[at-w.from:end-w.from])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (w *rewinder) restart() error {
	r, err := w.open()
	if err != nil {
		return err
	}
	w.r.Close()
	w.r, w.kept, w.from = r, w.kept[:0], 0
	return nil
}

// more reads on, keeping what is needed from at on and a little before.
func (w *rewinder) more(at int64) error {
	const step = 256 << 10
	if len(w.kept) >= 2*rewindBytes {
		keep := max(w.from+int64(len(w.kept))-rewindBytes, w.from)
		if keep = min(keep, max(at, w.from)); keep > w.from {
			n := copy(w.kept, w.kept[keep-w.from:])
			w.kept, w.from = w.kept[:n], keep
		}
	}
	n := int(min(step, w.size-w.from-int64(len(w.kept))))
	old := len(w.kept)
	w.kept = append(w.kept, make([]byte, n)...)
	got, err := io.ReadFull(w.r, w.kept[old:])
	w.kept = w.kept[:old+got]
	if err != nil {
		return err //nolint:wrapcheck // the caller does
	}
	if w.from+int64(len(w.kept)) == w.size {
		return wantEOF(w.r)
	}
	return nil
}

// Close closes the payload.
func (w *rewinder) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	return w.r.Close() //nolint:wrapcheck // nothing to add
}
