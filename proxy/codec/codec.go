package codec

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
)

// Codec encodes and decodes objects. Make one for a program and use it for all objects: its workers keep their memory.
type Codec struct {
	idle chan *worker // nil in place of a worker that was not made yet
}

// New returns a codec with at most so many workers, at least one. A worker occupies one processor while it codes, and at most [WorkerMemory] bytes.
func New(workers int) *Codec {
	workers = max(workers, 1)
	c := &Codec{idle: make(chan *worker, workers)}
	for range workers {
		c.idle <- nil
	}
	return c
}

// acquire waits for a worker.
func (c *Codec) acquire() (*worker, error) {
	w := <-c.idle
	if w != nil {
		return w, nil
	}
	w, err := newWorker()
	if err != nil {
		c.idle <- nil
		return nil, err
	}
	return w, nil
}

func (c *Codec) release(w *worker) { c.idle <- w }

// Hints are what the caller knows of an object.
type Hints struct {
	// TransferSyntax is the UID of the data set's encoding. It is needed for data sets without file meta information; if it is empty
	// there, Implicit or Explicit VR Little Endian is guessed.
	TransferSyntax string
	// Digest is the SHA-256 of the object. If it is nil, the object is read once more to compute it.
	Digest *[sha256.Size]byte
}

// Encoding is an object on its way into blocks. It is safe for concurrent use if the object's reader is.
type Encoding struct {
	codec      *Codec
	r          io.ReaderAt
	header     Header
	parts      []part
	compressed bool
}

// Plan looks at an object of size bytes and divides it into blocks. It reads a few KiB, and all of it if the hints have no digest. The
// error is ErrTooLarge above [MaxObject], else one of r.
func (c *Codec) Plan(r io.ReaderAt, size int64, h Hints) (*Encoding, error) {
	if size < 0 || size > MaxObject {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, size, int64(MaxObject))
	}
	found, err := scan(r, size, h.TransferSyntax)
	if err != nil {
		return nil, err
	}
	e := &Encoding{codec: c, r: r, parts: divide(size, found), compressed: found.compressed}
	e.header = Header{Version: Version, Size: size, Blocks: len(e.parts)}
	if h.Digest != nil {
		e.header.Digest = *h.Digest
		return e, nil
	}
	sum := sha256.New()
	if n, err := io.Copy(sum, io.NewSectionReader(r, 0, size)); err != nil || n != size {
		return nil, readError(err)
	}
	sum.Sum(e.header.Digest[:0])
	return e, nil
}

// Header returns what the encoded object will say of itself.
func (e *Encoding) Header() Header { return e.header }

// Compressed reports that the object's transfer syntax is a compressed one, so that nothing will be tried: all blocks are stored.
func (e *Encoding) Compressed() bool { return e.compressed }

// AppendHeader appends the first [HeaderSize] bytes of the encoded object.
func (e *Encoding) AppendHeader(dst []byte) []byte { return e.header.append(dst) }

// Block returns where in the original the ith block lies, in bytes.
func (e *Encoding) Block(i int) (offset int64, size int) { return e.parts[i].offset, e.parts[i].size }

// AppendBlock appends the ith block with its header. It is not compared with the original: see AppendVerified.
func (e *Encoding) AppendBlock(dst []byte, i int) ([]byte, error) {
	dst, _, err := e.appendBlock(dst, i, false)
	return dst, err
}

// AppendVerified appends the ith block after decoding it and comparing it with the original. If that should ever differ, the block is
// stored as it is, and faulty is true: report it, the package has an error. The object is safe in both cases.
func (e *Encoding) AppendVerified(dst []byte, i int) (out []byte, faulty bool, err error) {
	return e.appendBlock(dst, i, true)
}

func (e *Encoding) appendBlock(dst []byte, i int, verify bool) (out []byte, faulty bool, err error) {
	w, err := e.codec.acquire()
	if err != nil {
		return dst, false, err
	}
	defer e.codec.release(w)
	p := e.parts[i]
	w.raw = grow(w.raw, p.size)
	if n, err := e.r.ReadAt(w.raw, p.offset); n < p.size {
		return dst, false, readError(err)
	}
	at := len(dst)
	dst = w.encode(dst, w.raw, p)
	if verify && !w.same(dst[at:], w.raw) {
		dst, faulty = w.encode(dst[:at], w.raw, part{kind: finished}), true
	}
	return dst, faulty, nil
}

// same reports whether a block decodes to raw.
func (w *worker) same(block, raw []byte) bool {
	h, err := ParseBlockHeader(block)
	if err != nil {
		return false
	}
	w.check, err = w.decode(w.check[:0], h, block[BlockHeaderSize:])
	return err == nil && string(w.check) == string(raw)
}

// AppendDecoded appends the original bytes of one block, of which b holds header and payload and nothing else. The error is ErrCorrupt.
// At most [MaxBlock] bytes are appended. The caller checks the object's length and digest when all blocks are there.
func (c *Codec) AppendDecoded(dst, b []byte) ([]byte, error) {
	h, err := ParseBlockHeader(b)
	if err != nil {
		return dst, err
	}
	if len(b) != BlockHeaderSize+h.Payload {
		return dst, fmt.Errorf("%w: block of %d bytes, its header says %d", ErrCorrupt, len(b), BlockHeaderSize+h.Payload)
	}
	w, err := c.acquire()
	if err != nil {
		return dst, err
	}
	defer c.release(w)
	return w.decode(dst, h, b[BlockHeaderSize:])
}

// Stats count what became of an object.
type Stats struct {
	Header
	// Encoded is the length of the encoded object in bytes.
	Encoded int64
	// Faulty is how many blocks did not decode to the original and are stored as they are. It is 0 unless the package has an error.
	Faulty int
}

// Encode writes an encoded object to w without comparing it with the original.
func (c *Codec) Encode(w io.Writer, r io.ReaderAt, size int64, h Hints) (Stats, error) {
	return c.encode(w, r, size, h, false)
}

// EncodeVerified writes an encoded object to w, each block of which has been decoded and compared with the original: see
// [Encoding.AppendVerified].
func (c *Codec) EncodeVerified(w io.Writer, r io.ReaderAt, size int64, h Hints) (Stats, error) {
	return c.encode(w, r, size, h, true)
}

func (c *Codec) encode(w io.Writer, r io.ReaderAt, size int64, h Hints, verify bool) (Stats, error) {
	e, err := c.Plan(r, size, h)
	if err != nil {
		return Stats{}, err
	}
	s := Stats{Header: e.header}
	write := func(b []byte) error {
		n, err := w.Write(b)
		s.Encoded += int64(n)
		if err != nil {
			return fmt.Errorf("write the encoded object: %w", err)
		}
		return nil
	}
	if err := write(e.AppendHeader(nil)); err != nil {
		return s, err
	}
	return s, c.ordered(len(e.parts), steps{
		work: func(b *slot, i int) (err error) {
			b.out, b.faulty, err = e.appendBlock(b.out[:0], i, verify)
			return err
		},
		finish: func(b *slot) error {
			if b.faulty {
				s.Faulty++
			}
			return write(b.out)
		},
	})
}

// Decode reads an encoded object from r and writes the original to w: at most limit bytes. It checks length and SHA-256 at the end,
// so w must be able to forget what it got when there is an error. Errors are ErrVersion, ErrCorrupt, ErrTooLarge, and those of r and w;
// an encoded object that ends too early is ErrCorrupt and io.ErrUnexpectedEOF.
func (c *Codec) Decode(w io.Writer, r io.Reader, limit int64) (Header, error) {
	var head [HeaderSize]byte
	if err := readFull(r, head[:]); err != nil {
		return Header{}, err
	}
	h, err := ParseHeader(head[:])
	if err != nil {
		return Header{}, err
	}
	if h.Size > limit {
		return h, fmt.Errorf("%w: %d bytes, allowed are %d", ErrTooLarge, h.Size, limit)
	}
	sum, left := sha256.New(), h.Size
	err = c.ordered(h.Blocks, steps{
		prepare: func(b *slot) error {
			size, err := b.read(r)
			if left -= int64(size); err == nil && left < 0 {
				return fmt.Errorf("%w: longer than its header says", ErrCorrupt)
			}
			return err
		},
		work: func(b *slot, _ int) (err error) {
			b.out, err = c.AppendDecoded(b.out[:0], b.in)
			return err
		},
		finish: func(b *slot) error {
			sum.Write(b.out)
			if _, err := w.Write(b.out); err != nil {
				return fmt.Errorf("write the decoded object: %w", err)
			}
			return nil
		},
	})
	switch {
	case err != nil:
		return h, err
	case left != 0:
		return h, fmt.Errorf("%w: shorter than its header says", ErrCorrupt)
	case [sha256.Size]byte(sum.Sum(nil)) != h.Digest:
		return h, fmt.Errorf("%w: SHA-256 differs", ErrCorrupt)
	}
	return h, nil
}

// read reads a block into b.in and returns the length of its original.
func (b *slot) read(r io.Reader) (int, error) {
	b.in = grow(b.in, BlockHeaderSize)
	if err := readFull(r, b.in); err != nil {
		return 0, err
	}
	h, err := ParseBlockHeader(b.in)
	if err != nil {
		return 0, err
	}
	b.in = reserve(b.in, h.Payload)[:BlockHeaderSize+h.Payload]
	return h.Size, readFull(r, b.in[BlockHeaderSize:])
}

func readFull(r io.Reader, b []byte) error {
	_, err := io.ReadFull(r, b)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: %w", ErrCorrupt, io.ErrUnexpectedEOF)
	}
	if err != nil {
		return fmt.Errorf("read the encoded object: %w", err)
	}
	return nil
}
