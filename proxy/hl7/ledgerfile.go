package hl7

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"time"
)

// A file of a Ledger is a row of records:
//
//	length(4)  key(16)  digest(32)  time(8, Unix ns)  answer  CRC-32C(4)
//
// Length is that of what stands between it and the CRC, big-endian like all numbers; the CRC is over length and that.
const (
	ledgerCurrent  = "messages.current"
	ledgerPrevious = "messages.previous"

	ledgerFixed = 16 + sha256.Size + 8
	// maxLedgerAck bounds an answer that is kept.
	maxLedgerAck = 2 << 10
	// maxLedgerBytes bounds a file.
	maxLedgerBytes = 32 << 20
)

func ledgerRecord(id identity, e ledgerEntry) []byte {
	b := make([]byte, 0, 4+ledgerFixed+len(e.ack)+4)
	b = binary.BigEndian.AppendUint32(b, uint32(ledgerFixed+len(e.ack)))
	b = append(b, id.key[:]...)
	b = append(b, id.digest[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(e.at.UnixNano()))
	b = append(b, e.ack...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
}

// readLedger reads a file up to the first record that is not whole, and says where that is. No file is an empty one.
func readLedger(path string) (page ledgerPage, size int64, err error) {
	page = newLedgerPage()
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return page, 0, nil
	}
	if err != nil {
		return page, 0, fmt.Errorf("read the message ledger: %w", err)
	}
	defer func() { _ = f.Close() }()
	r := bufio.NewReader(f)
	for {
		id, e, n, err := nextRecord(r)
		switch {
		case errors.Is(err, errTorn), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return page, size, nil
		case err != nil:
			return page, 0, fmt.Errorf("read the message ledger: %w", err)
		}
		page.put(id, e)
		size += n
	}
}

var errTorn = errors.New("the record is not whole")

func nextRecord(r io.Reader) (id identity, e ledgerEntry, size int64, err error) {
	head := make([]byte, 4)
	if _, err := io.ReadFull(r, head); err != nil {
		return id, e, 0, err //nolint:wrapcheck // readLedger does
	}
	length := binary.BigEndian.Uint32(head)
	if length < ledgerFixed || length > ledgerFixed+maxLedgerAck {
		return id, e, 0, errTorn
	}
	b := make([]byte, length+4)
	if _, err := io.ReadFull(r, b); err != nil {
		return id, e, 0, err //nolint:wrapcheck // readLedger does
	}
	body, sum := b[:length], binary.BigEndian.Uint32(b[length:])
	table := crc32.MakeTable(crc32.Castagnoli)
	if crc32.Update(crc32.Checksum(head, table), table, body) != sum {
		return id, e, 0, errTorn
	}
	id.key, id.digest = ledgerKey(body[:16]), [sha256.Size]byte(body[16:16+sha256.Size])
	e.at = time.Unix(0, int64(binary.BigEndian.Uint64(body[16+sha256.Size:ledgerFixed])))
	if length > ledgerFixed {
		e.ack = body[ledgerFixed:]
	}
	return id, e, int64(4 + len(b)), nil
}
