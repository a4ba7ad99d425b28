package dicom

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// The form of a ledger's file: a head of mark and salt, then records of one size. A record is
//
//	kind (1) zero (3) CRC-32C of the rest (4) time in s (8) object (16) content (16) number (8) zero (8)
//
// with numbers big-endian. Records are appended; a record that is damaged is passed over.
const (
	ledgerMark   = "TWPLDG1\n"
	ledgerSalt   = 32
	ledgerHead   = len(ledgerMark) + ledgerSalt
	ledgerRecord = 64
	// maxLedgerFile bounds what is read at start: more than any ledger has, since files are rewritten when they have grown.
	maxLedgerFile = 256 << 20
)

// The kinds of records.
const (
	recordMark      = 'M' // items below this number may have been sent
	recordDelivered = 'D' // this content of this object was delivered
)

// objectKey stands for a SOP instance UID, contentKey for its bytes and how they are encoded. Both are salted digests: a ledger
// names nobody's objects.
type (
	objectKey  [16]byte
	contentKey [16]byte
)

// delivered is one line of a ledger.
type delivered struct {
	object  objectKey
	content contentKey
	at      time.Time
}

type record struct {
	kind   byte
	line   delivered
	number uint64
}

func (r record) encode() []byte {
	b := make([]byte, ledgerRecord)
	b[0] = r.kind
	if !r.line.at.IsZero() {
		binary.BigEndian.PutUint64(b[8:], uint64(r.line.at.Unix()))
	}
	copy(b[16:], r.line.object[:])
	copy(b[32:], r.line.content[:])
	binary.BigEndian.PutUint64(b[48:], r.number)
	binary.BigEndian.PutUint32(b[4:], recordSum(b))
	return b
}

// recordSum covers everything but itself.
func recordSum(b []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	return crc32.Update(crc32.Checksum(b[:4], table), table, b[8:])
}

func decodeRecord(b []byte) (record, bool) {
	if len(b) != ledgerRecord || recordSum(b) != binary.BigEndian.Uint32(b[4:]) || b[0] != recordMark && b[0] != recordDelivered {
		return record{}, false
	}
	r := record{kind: b[0], number: binary.BigEndian.Uint64(b[48:])}
	r.line.at = time.Unix(int64(binary.BigEndian.Uint64(b[8:])), 0)
	copy(r.line.object[:], b[16:])
	copy(r.line.content[:], b[32:])
	return r, true
}

// ledgerFile is the durable part of a Ledger.
type ledgerFile struct {
	path    string
	f       *os.File
	salt    [ledgerSalt]byte
	records int
	dirty   bool
}

// openLedgerFile opens or makes the file and hands out its records. Damaged means that records are missing which the file once held:
// more than the end that a power cut may tear off.
func openLedgerFile(path string, each func(record)) (lf *ledgerFile, damaged bool, err error) {
	b, err := readBounded(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, false, err
	}
	lf = &ledgerFile{path: path}
	if len(b) < ledgerHead || string(b[:len(ledgerMark)]) != ledgerMark {
		damaged = err == nil // there was one
		if _, err := rand.Read(lf.salt[:]); err != nil {
			return nil, false, fmt.Errorf("draw a salt: %w", err)
		}
		return lf, damaged, lf.rewrite(nil)
	}
	copy(lf.salt[:], b[len(ledgerMark):])
	torn := false
	for b = b[ledgerHead:]; len(b) > 0; b = b[min(len(b), ledgerRecord):] {
		r, ok := decodeRecord(b[:min(len(b), ledgerRecord)])
		if !ok {
			torn = true
			continue
		}
		damaged = damaged || torn // something good after something bad
		each(r)
	}
	return lf, damaged, nil
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	b, err := io.ReadAll(io.LimitReader(f, maxLedgerFile))
	if err != nil {
		return nil, fmt.Errorf("read the ledger: %w", err)
	}
	return b, nil
}

// rewrite replaces the file by one with these records, synced.
func (lf *ledgerFile) rewrite(records []record) error {
	temporary := lf.path + ".tmp"
	f, err := os.OpenFile(temporary, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("write the ledger: %w", err)
	}
	b := append([]byte(ledgerMark), lf.salt[:]...)
	for _, r := range records {
		b = append(b, r.encode()...)
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync()); err == nil {
		err = os.Rename(temporary, lf.path)
	}
	if err == nil {
		err = syncFolder(filepath.Dir(lf.path))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write the ledger: %w", err), f.Close())
	}
	if lf.f != nil {
		_ = lf.f.Close() // it has been replaced
	}
	lf.f, lf.records, lf.dirty = f, len(records), false
	return nil
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// append writes a record, which is durable after sync.
func (lf *ledgerFile) append(r record) error {
	if _, err := lf.f.Write(r.encode()); err != nil {
		return fmt.Errorf("write the ledger: %w", err)
	}
	lf.records++
	lf.dirty = true
	return nil
}

func (lf *ledgerFile) sync() error {
	if !lf.dirty {
		return nil
	}
	if err := lf.f.Sync(); err != nil {
		return fmt.Errorf("write the ledger: %w", err)
	}
	lf.dirty = false
	return nil
}

func (lf *ledgerFile) close() error { return errors.Join(lf.sync(), lf.f.Close()) }
