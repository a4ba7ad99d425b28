package pdu

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// readBuffer is the size of a Reader's buffer, the only memory it holds besides the one whole PDU being read.
const readBuffer = 64 << 10

// Reader takes a byte stream apart into PDUs. Call Next; then, depending on the type, Whole for the small PDUs, or NextPDV and
// Read or WriteTo until both say io.EOF for P-DATA-TF. It is used by one goroutine.
type Reader struct {
	r   *bufio.Reader
	lim Limits

	h       Header
	body    uint32 // bytes of the current PDU not read yet
	payload uint32 // bytes of the current fragment not read yet, part of body
}

// NewReader returns a Reader of r. A zero field of lim means its default.
func NewReader(r io.Reader, lim Limits) *Reader {
	return &Reader{r: bufio.NewReaderSize(r, readBuffer), lim: lim.WithDefaults()}
}

// Next reads the header of the next PDU and checks its length against the limits, before anything is allocated. It returns io.EOF
// if the stream ends between two PDUs, io.ErrUnexpectedEOF if inside one, and an *Error for a wrong type or length. Calling it
// before the previous PDU was read to its end is an error.
func (r *Reader) Next() (Header, error) {
	if r.body != 0 {
		return Header{}, fmt.Errorf("%d bytes of the previous PDU are unread", r.body)
	}
	var b [HeaderSize]byte
	if _, err := io.ReadFull(r.r, b[:]); err != nil {
		return Header{}, err
	}
	h := DecodeHeader(b)
	if err := r.check(h); err != nil {
		return h, err
	}
	r.h, r.body, r.payload = h, h.Length, 0
	return h, nil
}

func (r *Reader) check(h Header) error {
	switch h.Type {
	case TypeAssociateRQ, TypeAssociateAC:
		if h.Length < associateFixed || h.Length > r.lim.MaxAssociate {
			return invalid("%s of %d bytes; %d to %d are taken", h.Type, h.Length, associateFixed, r.lim.MaxAssociate)
		}
	case TypeAssociateRJ, TypeReleaseRQ, TypeReleaseRP, TypeAbort:
		if h.Length != shortBody {
			return invalid("%s of %d bytes instead of %d", h.Type, h.Length, shortBody)
		}
	case TypeData:
		if h.Length < PDVHeaderSize || h.Length > r.lim.MaxData+headerSlack {
			return invalid("%s of %d bytes; %d to %d are taken", h.Type, h.Length, PDVHeaderSize, r.lim.MaxData)
		}
	default:
		return &Error{Reason: ReasonUnrecognizedPDU, Message: fmt.Sprintf("%s does not exist", h.Type)}
	}
	return nil
}

// Whole reads the rest of the current PDU and returns all of it, header included. Memory grows with what arrives, not with what was
// announced. It must not be used for P-DATA-TF.
func (r *Reader) Whole() ([]byte, error) {
	if r.h.Type == TypeData {
		return nil, errors.New("P-DATA-TF must be streamed")
	}
	var b bytes.Buffer
	b.Write(r.h.Append(nil))
	n, err := io.CopyN(&b, r.r, int64(r.body))
	r.body -= uint32(n)
	if err != nil {
		return nil, noEOF(err)
	}
	return b.Bytes(), nil
}

// NextPDV reads the head of the next fragment in the current P-DATA-TF. It returns io.EOF after the last one. Calling it before the
// previous fragment was read to its end is an error.
func (r *Reader) NextPDV() (PDV, error) {
	switch {
	case r.payload != 0:
		return PDV{}, fmt.Errorf("%d bytes of the previous fragment are unread", r.payload)
	case r.body == 0:
		return PDV{}, io.EOF
	case r.body < PDVHeaderSize:
		return PDV{}, invalid("%d stray bytes at the end of a P-DATA-TF", r.body)
	}
	var b [PDVHeaderSize]byte
	if _, err := io.ReadFull(r.r, b[:]); err != nil {
		return PDV{}, noEOF(err)
	}
	r.body -= PDVHeaderSize
	v, err := DecodePDV(b)
	if err != nil {
		return PDV{}, err
	}
	if v.Length > r.body {
		return PDV{}, invalid("a presentation data value claims %d bytes where its PDU has %d left", v.Length, r.body)
	}
	r.payload = v.Length
	return v, nil
}

// Read reads from the current fragment and returns io.EOF at its end.
func (r *Reader) Read(p []byte) (int, error) {
	if r.payload == 0 {
		return 0, io.EOF
	}
	n, err := r.r.Read(p[:min(len(p), int(r.payload))])
	r.took(n)
	return n, noEOF(err)
}

// WriteTo writes the rest of the current fragment to w without copying it in between. A non-nil error is w's unless it is a
// *ReadError.
func (r *Reader) WriteTo(w io.Writer) (int64, error) {
	var total int64
	for r.payload > 0 {
		if r.r.Buffered() == 0 {
			if _, err := r.r.Peek(1); err != nil {
				return total, &ReadError{Err: noEOF(err)}
			}
		}
		b, err := r.r.Peek(min(r.r.Buffered(), int(r.payload)))
		if err != nil {
			return total, &ReadError{Err: noEOF(err)}
		}
		n, err := w.Write(b)
		if _, discardErr := r.r.Discard(n); discardErr != nil {
			return total, &ReadError{Err: discardErr}
		}
		r.took(n)
		total += int64(n)
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// Discard skips the rest of the current fragment.
func (r *Reader) Discard() error {
	_, err := r.WriteTo(io.Discard)
	return err
}

// Peek waits for the next byte without taking it.
func (r *Reader) Peek() error {
	_, err := r.r.Peek(1)
	return err
}

// Buffered returns a copy of what was read ahead, without taking it.
func (r *Reader) Buffered() []byte {
	b, err := r.r.Peek(r.r.Buffered())
	if err != nil {
		return nil
	}
	return bytes.Clone(b)
}

// Rest returns the stream from where the Reader stands, what is buffered included. The Reader must not be used afterwards.
func (r *Reader) Rest() io.Reader { return r.r }

func (r *Reader) took(n int) {
	r.payload -= uint32(n)
	r.body -= uint32(n)
}

// ReadError marks an error of WriteTo as one of the stream that is read.
type ReadError struct{ Err error }

func (e *ReadError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *ReadError) Unwrap() error { return e.Err }

// noEOF turns the end of the stream inside a PDU into io.ErrUnexpectedEOF.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
