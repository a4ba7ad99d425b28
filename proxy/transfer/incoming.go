package transfer

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"
	"time"

	"github.com/towpath/towpath/proxy/codec"
)

// stage is where an incoming item stands.
type stage int

const (
	waiting   stage = iota // for memory or a file
	receiving              // its chunks
	storing                // all is there, the Inbox has it
	gone                   // out of the table
)

// fileCost is what an item counts whose payload goes to a file: its blocks that are not complete.
const fileCost = 2 << 20

// maxAssembling bounds the incomplete blocks of an item.
const maxAssembling = 64

// incoming is an item on its way in. It outlives the session that it came in by.
type incoming struct {
	item Item
	key  key
	cost int64
	seq  uint64

	mu     sync.Mutex
	owner  *inSession // nil after a cut
	handle uint64
	stage  stage
	// stored means that the Inbox has it and only the record is missing.
	stored bool
	have   spans
	memory []byte
	file   *partFile
	blocks map[int64]*assembly
}

// assembly is a block of the codec of which chunks are missing.
type assembly struct {
	size, coded uint32
	buf         []byte
	got         int
}

// errGone is an item that was cut off before it began.
var errGone = errors.New("the item is gone")

// begin makes room for the payload.
func (in *incoming) begin(folder *partFolder, inMemory int64) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	switch {
	case in.stage != waiting:
		return errGone
	case in.item.Size <= inMemory:
		in.memory = make([]byte, in.item.Size)
		folder.forget(in.key)
	default:
		f, err := folder.open(in.key, in.item.Size)
		if err != nil {
			return err
		}
		in.file, in.have = f, spans{prefix: f.synced}
	}
	in.stage = receiving
	return nil
}

// take adds a chunk that s received. It is true for the one that makes the payload complete.
func (in *incoming) take(s *inSession, c chunk, cdc *codec.Codec) (complete bool, err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.owner != s || in.stage != receiving {
		return false, nil
	}
	if c.offset+int64(c.size) > in.item.Size {
		return false, fmt.Errorf("%w: a block ends beyond its item", errMalformed)
	}
	data, at := c.data, c.offset+int64(c.at)
	if c.method == methodCodec {
		if data, err = in.assemble(s, c); data == nil || err != nil {
			return false, err
		}
		in.mu.Unlock()
		s.decoding.begin(time.Now())
		data, err = cdc.AppendDecoded(make([]byte, 0, c.size), data)
		s.decoding.end(int(c.size), time.Now())
		in.mu.Lock()
		s.assembling.Add(-int64(c.coded))
		switch {
		case err != nil:
			return false, fmt.Errorf("%w: %w", errMalformed, err)
		case len(data) != int(c.size):
			return false, fmt.Errorf("%w: a block has %d bytes and not %d", errMalformed, len(data), c.size)
		case in.owner != s || in.stage != receiving:
			return false, nil
		}
		at = c.offset
	}
	if err := in.put(data, at); err != nil {
		return false, err
	}
	if in.have.prefix < in.item.Size {
		return false, nil
	}
	in.stage = storing
	return true, nil
}

// assemble adds a chunk to its block and returns the block when it is complete.
func (in *incoming) assemble(s *inSession, c chunk) ([]byte, error) {
	a := in.blocks[c.offset]
	if a == nil {
		if len(in.blocks) >= maxAssembling || s.assembling.Add(int64(c.coded)) > maxSessionAssembling {
			return nil, fmt.Errorf("%w: too many blocks are incomplete", errMalformed)
		}
		a = &assembly{size: c.size, coded: c.coded, buf: make([]byte, c.coded)}
		if in.blocks == nil {
			in.blocks = map[int64]*assembly{}
		}
		in.blocks[c.offset] = a
	}
	if a.size != c.size || a.coded != c.coded {
		return nil, fmt.Errorf("%w: chunks of one block do not fit", errMalformed)
	}
	a.got += copy(a.buf[c.at:], c.data)
	if a.got < len(a.buf) {
		return nil, nil
	}
	delete(in.blocks, c.offset)
	return a.buf, nil
}

// put stores bytes of the payload.
func (in *incoming) put(data []byte, at int64) error {
	if in.memory != nil {
		copy(in.memory[at:], data)
	} else if err := in.file.writeAt(data, at); err != nil {
		return err
	}
	if !in.have.add(at, at+int64(len(data))) {
		return fmt.Errorf("%w: too many pieces of an item come ahead of their turn", errMalformed)
	}
	if in.file != nil && in.have.prefix-in.file.synced >= partSyncStep {
		return in.file.sync(in.have.prefix)
	}
	return nil
}

// cut ends the session's part in the item. False means that nothing is left in memory that is worth keeping.
func (in *incoming) cut(s *inSession) (keep bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.owner != s {
		return true
	}
	in.owner, in.handle = nil, 0
	in.blocks = nil
	if in.stage == storing {
		return true
	}
	if in.file != nil {
		// A failure means that the item begins at an earlier place.
		_ = in.file.sync(in.have.prefix)
		in.file.close(false)
		in.file = nil
		in.stage = gone
		return false
	}
	if in.stored || (in.stage == receiving && in.have.prefix > 0) {
		return true
	}
	in.stage = gone
	return false
}

// release gives the payload's room back. What is not stored can go on later from a file.
func (in *incoming) release(remove bool) {
	if in.file != nil {
		if !remove {
			_ = in.file.sync(in.have.prefix)
		}
		in.file.close(remove)
		in.file = nil
	}
	in.memory = nil
}

// payload reads what was received and checks it.
func (in *incoming) payload() io.Reader {
	d := &digestReader{hash: sha256.New(), want: in.item.SHA256}
	if in.file != nil {
		d.r = io.NewSectionReader(in.file, 0, in.item.Size)
	} else {
		d.r = bytes.NewReader(in.memory)
	}
	return d
}

// digestReader returns ErrDamaged instead of io.EOF when the bytes do not have their digest.
type digestReader struct {
	r    io.Reader
	hash hash.Hash
	want [sha256.Size]byte
}

// Read reads on.
func (d *digestReader) Read(b []byte) (int, error) {
	n, err := d.r.Read(b)
	_, _ = d.hash.Write(b[:n])
	if errors.Is(err, io.EOF) && [sha256.Size]byte(d.hash.Sum(nil)) != d.want {
		return n, ErrDamaged
	}
	return n, err //nolint:wrapcheck // io.EOF must stay what it is
}
