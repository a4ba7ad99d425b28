package transfer

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// What a record of the journal says.
const (
	recordReceipt = 1 // a receipt, of whatever kind
	recordSettled = 2 // the sender keeps the final receipt of this key
	recordForget  = 3 // nothing is known of this key any more
)

const (
	maxRecord = 1 + maxReceipt
	// compactAt is how many bytes of the journal must be out of date before it is written anew.
	compactAt = 4 << 20
)

// entry is what a Receiver knows of an item that it took.
type entry struct {
	taken, final Receipt // zero until there is one
	// settled means that the sender keeps final, which is Parked: an accepted one is forgotten then.
	settled bool
}

// journal is the durable map of entries: a file of records, each synced before the call that wrote it returns. Concurrent calls share a sync.
//
//	length(4) kind(1) body CRC-32C(4)
type journal struct {
	path string

	mu      sync.Mutex
	file    *os.File
	size    int64 // of whole, synced records
	dead    int64 // bytes of records that no longer count
	broken  error
	entries map[key]*entry
	pending []byte
	round   *journalRound
	writing bool
}

type journalRound struct {
	done chan struct{}
	err  error
}

// openJournal reads the file, cuts a torn end off and writes it anew without what is out of date.
func openJournal(dir string) (*journal, error) {
	j := &journal{path: filepath.Join(dir, "journal"), entries: map[key]*entry{}}
	if err := j.load(); err != nil {
		return nil, fmt.Errorf("read the transfer journal: %w", err)
	}
	if err := j.rewriteLocked(); err != nil {
		return nil, fmt.Errorf("write the transfer journal: %w", err)
	}
	return j, nil
}

func (j *journal) load() error {
	f, err := os.Open(j.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err //nolint:wrapcheck // openJournal does
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 256<<10)
	for {
		body, err := readRecord(r)
		if errors.Is(err, errTorn) {
			return nil
		}
		if err != nil {
			return err
		}
		j.applyLocked(body)
	}
}

var errTorn = errors.New("the record is not whole")

func readRecord(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, tornAtEnd(err)
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 || n > maxRecord {
		return nil, errTorn
	}
	b := make([]byte, n+4)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, tornAtEnd(err)
	}
	if checksum(head[:], b[:n]) != binary.BigEndian.Uint32(b[n:]) {
		return nil, errTorn
	}
	return b[:n], nil
}

func tornAtEnd(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errTorn
	}
	return err
}

func checksum(head, body []byte) uint32 {
	t := crc32.MakeTable(crc32.Castagnoli)
	return crc32.Update(crc32.Checksum(head, t), t, body)
}

func appendRecord(b []byte, kind byte, body []byte) []byte {
	at := len(b)
	b = binary.BigEndian.AppendUint32(b, uint32(1+len(body)))
	b = append(append(b, kind), body...)
	return binary.BigEndian.AppendUint32(b, checksum(b[at:at+4], b[at+4:]))
}

// applyLocked changes the map as a record says. What a record of another program's version says is left alone.
func (j *journal) applyLocked(body []byte) {
	switch body[0] {
	case recordReceipt:
		r, err := ParseReceipt(body[1:])
		if err != nil {
			return
		}
		e := j.entries[r.key()]
		if e == nil {
			e = &entry{}
			j.entries[r.key()] = e
		}
		if r.Kind == Taken {
			j.dead += int64(len(e.taken.canonical))
			e.taken = r
			if e.settled { // it was parked and is due again
				j.dead += int64(len(e.final.canonical))
				e.final, e.settled = Receipt{}, false
			}
			return
		}
		j.dead += int64(len(e.final.canonical))
		e.final, e.settled = r, false
	case recordSettled:
		if e := j.entries[key(body[1:])]; len(body) == 1+len(key{}) && e != nil {
			e.settled = true
		}
	case recordForget:
		if e := j.entries[key(body[1:])]; len(body) == 1+len(key{}) && e != nil {
			j.dead += int64(len(e.final.canonical) + len(e.taken.canonical) + 2*len(body))
			delete(j.entries, key(body[1:]))
		}
	}
}

// get copies an entry.
func (j *journal) get(k key) (entry, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	e := j.entries[k]
	if e == nil {
		return entry{}, false
	}
	return *e, true
}

func (j *journal) count() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.entries)
}

// open lists what was taken and has no end yet.
func (j *journal) open() []Receipt {
	j.mu.Lock()
	defer j.mu.Unlock()
	var list []Receipt
	for _, e := range j.entries {
		if e.final.Kind == 0 {
			list = append(list, e.taken)
		}
	}
	return list
}

// finals lists what a node has not settled yet.
func (j *journal) finals(node string) []Receipt {
	j.mu.Lock()
	defer j.mu.Unlock()
	var list []Receipt
	for _, e := range j.entries {
		if e.final.Kind != 0 && !e.settled && e.final.Node == node {
			list = append(list, e.final)
		}
	}
	return list
}

func (j *journal) addReceipt(r Receipt) error {
	return j.append(appendRecord(nil, recordReceipt, r.canonical))
}

func (j *journal) settle(k key) error { return j.append(appendRecord(nil, recordSettled, k[:])) }

func (j *journal) forget(k key) error { return j.append(appendRecord(nil, recordForget, k[:])) }

// append returns when the records are synced and in the map.
func (j *journal) append(records []byte) error {
	j.mu.Lock()
	if j.broken != nil {
		defer j.mu.Unlock()
		return j.broken
	}
	j.pending = append(j.pending, records...)
	if j.round == nil {
		j.round = &journalRound{done: make(chan struct{})}
	}
	round := j.round
	if !j.writing {
		j.writing = true
		go j.flush()
	}
	j.mu.Unlock()
	<-round.done
	return round.err
}

// flush writes rounds until none is left.
func (j *journal) flush() {
	for {
		j.mu.Lock()
		round, records := j.round, j.pending
		j.round, j.pending = nil, nil
		if round == nil {
			j.writing = false
			j.mu.Unlock()
			return
		}
		j.mu.Unlock()
		err := j.write(records)
		j.mu.Lock()
		if err == nil {
			j.size += int64(len(records))
			for b := records; len(b) > 0; {
				n := binary.BigEndian.Uint32(b)
				j.applyLocked(b[4 : 4+n])
				b = b[8+n:]
			}
			if j.dead > compactAt && j.dead > j.size/2 {
				// A failure leaves the old file in use; the next round tries again.
				_ = j.rewriteLocked()
			}
		} else if cut := j.file.Truncate(j.size); cut != nil {
			j.broken = fmt.Errorf("the transfer journal cannot be written until the gateway is restarted: %w", cut)
		}
		j.mu.Unlock()
		round.err = err
		close(round.done)
	}
}

// write is only called by flush, which alone changes file and size.
func (j *journal) write(b []byte) error {
	_, err := j.file.WriteAt(b, j.size)
	if err == nil {
		err = j.file.Sync()
	}
	if err != nil {
		return fmt.Errorf("write the transfer journal: %w", fullDisk(err))
	}
	return nil
}

// rewriteLocked replaces the file by one of what counts.
func (j *journal) rewriteLocked() error {
	var b []byte
	for k, e := range j.entries {
		for _, r := range []Receipt{e.taken, e.final} {
			if r.Kind != 0 {
				b = appendRecord(b, recordReceipt, r.canonical)
			}
		}
		if e.settled {
			b = appendRecord(b, recordSettled, k[:])
		}
	}
	f, err := os.OpenFile(j.path+".new", os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return err //nolint:wrapcheck // the caller does
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync()); err == nil {
		err = os.Rename(f.Name(), j.path)
	}
	if err != nil {
		f.Close()
		return err //nolint:wrapcheck // the caller does
	}
	if j.file != nil {
		j.file.Close()
	}
	j.file, j.size, j.dead = f, int64(len(b)), 0
	if err := syncDir(filepath.Dir(j.path)); err != nil {
		j.broken = fmt.Errorf("the transfer journal cannot be synced until the gateway is restarted: %w", err)
		return j.broken
	}
	return nil
}

func (j *journal) close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.broken == nil {
		j.broken = errClosed
	}
	return j.file.Close() //nolint:wrapcheck // nothing to add
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err //nolint:wrapcheck // the caller does
	}
	return errors.Join(d.Sync(), d.Close())
}
