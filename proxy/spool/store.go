package spool

import (
	"bufio"
	"io"
)

// store takes what is stored of one item: in memory as long as the journal would take it, and then in a file of its own.
type store struct {
	writer *writer
	image  []byte // nil once there is a file
	file   file   // nil while there is none
	buffer *bufio.Writer
}

// Write appends.
func (t *store) Write(p []byte) (int, error) {
	if t.file == nil {
		if len(t.image)+len(p) <= t.writer.spool.opts.MaxShared {
			t.image = append(t.image, p...)
			return len(p), nil
		}
		if err := t.spill(); err != nil {
			return 0, err
		}
	}
	return t.buffer.Write(p) //nolint:wrapcheck // the writer does
}

// spill makes the file, with what there is.
func (t *store) spill() (err error) {
	s := t.writer.spool
	if t.file, err = s.vol.create(itemName(t.writer.id, extTemporary)); err != nil {
		return err
	}
	t.buffer = s.takeBuffer(t.file)
	_, err = t.buffer.Write(t.image)
	s.returnImage(t.image)
	t.image = nil
	return err //nolint:wrapcheck // the writer does
}

// flush hands everything to the file, if there is one.
func (t *store) flush() error {
	if t.file == nil {
		return nil
	}
	return t.buffer.Flush() //nolint:wrapcheck // the writer does
}

// end gives back what was lent, and closes the file.
func (t *store) end() error {
	s := t.writer.spool
	if t.image != nil {
		s.returnImage(t.image)
		t.image = nil
	}
	if t.file == nil {
		return nil
	}
	if t.buffer != nil {
		t.buffer.Reset(nil)
		s.buffers.Put(t.buffer)
		t.buffer = nil
	}
	return t.file.Close() //nolint:wrapcheck // the writer does
}

// takeBuffer lends a buffer.
func (s *Spool) takeBuffer(to io.Writer) *bufio.Writer {
	b, ok := s.buffers.Get().(*bufio.Writer)
	if !ok {
		return bufio.NewWriterSize(to, writeBuffer)
	}
	b.Reset(to)
	return b
}

// takeImage lends memory for a small item, so that many share little.
func (s *Spool) takeImage() []byte {
	b, ok := s.images.Get().(*[]byte)
	if !ok {
		return make([]byte, 0, maxImage)
	}
	return (*b)[:0]
}

func (s *Spool) returnImage(b []byte) {
	if cap(b) > 0 {
		s.images.Put(&b)
	}
}
