package transfer

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// A file with a part of a payload:
//
//	0     mark(8) key of the item(32) size(8) salt(32) CRC-32C(4)
//	512   position(8) CRC-32C(4): so many bytes from the start are synced
//	1024  the same; the greater valid one counts
//	4096  the payload, each byte at its place, AES-256-CTR under a key of this file alone
const (
	partMark     = "TWPART\x00\x01"
	partHead     = len(partMark) + sha256.Size + 8 + 32 + 4
	partData     = 4096
	partSuffix   = ".part"
	partSyncStep = 8 << 20
)

// partFolder is a folder of such files. Who steals the disk finds neither names nor payloads in it.
type partFolder struct {
	dir    string
	secret []byte
	limit  int64

	mu    sync.Mutex
	files map[key]*partInfo
	used  int64
}

type partInfo struct {
	size     int64
	modified time.Time
	open     bool
}

// openPartFolder takes the files over that belong to secret and are not older than age; the others are of no use and are removed.
func openPartFolder(dir string, secret []byte, limit int64, age time.Duration) (*partFolder, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of partial items: %w", err)
	}
	p := &partFolder{dir: dir, secret: secret, limit: limit, files: map[key]*partInfo{}}
	if len(secret) == 0 {
		p.secret = make([]byte, 32)
		_, _ = rand.Read(p.secret) // never fails
	}
	names, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list partial items: %w", err)
	}
	for _, e := range names {
		path := filepath.Join(dir, e.Name())
		k, size, err := readPartHead(path)
		info, statErr := e.Info()
		if err != nil || statErr != nil || path != p.path(k) || len(secret) == 0 || time.Since(info.ModTime()) > age {
			_ = os.Remove(path)
			continue
		}
		p.files[k] = &partInfo{size: size, modified: info.ModTime()}
		p.used += size
	}
	return p, nil
}

func readPartHead(path string) (k key, size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return k, 0, err //nolint:wrapcheck // the caller only wants to know whether
	}
	defer f.Close()
	b := make([]byte, partHead)
	if _, err := f.ReadAt(b, 0); err != nil {
		return k, 0, err //nolint:wrapcheck // the caller only wants to know whether
	}
	d := decoder{b: b}
	if string(d.take(len(partMark))) != partMark || checksum(nil, b[:partHead-4]) != binary.BigEndian.Uint32(b[partHead-4:]) {
		return k, 0, errTorn
	}
	k = key(d.digest())
	return k, d.size(), nil
}

func (p *partFolder) path(k key) string {
	return filepath.Join(p.dir, hex.EncodeToString(k[:16])+partSuffix)
}

// open continues or begins the file of an item. ErrFull means that there is no room for it.
func (p *partFolder) open(k key, size int64) (*partFile, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if info := p.files[k]; info != nil && !info.open && info.size == size {
		if f, err := p.resume(k, size); err == nil {
			info.open = true
			return f, nil
		}
		p.removeLocked(k)
	}
	for p.used+size > p.limit {
		if !p.evictLocked() {
			return nil, fmt.Errorf("%w: its partial items have %d of at most %d bytes", ErrFull, p.used, p.limit)
		}
	}
	f, err := p.create(k, size)
	if err != nil {
		_ = os.Remove(p.path(k))
		return nil, fmt.Errorf("begin a partial item: %w", fullDisk(err))
	}
	p.files[k] = &partInfo{size: size, open: true, modified: time.Now()}
	p.used += size
	return f, nil
}

func (p *partFolder) create(k key, size int64) (*partFile, error) {
	f, err := os.OpenFile(p.path(k), os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err //nolint:wrapcheck // open does
	}
	salt := make([]byte, 32)
	_, _ = rand.Read(salt) // never fails
	b := append([]byte(partMark), k[:]...)
	b = append(binary.BigEndian.AppendUint64(b, uint64(size)), salt...)
	b = binary.BigEndian.AppendUint32(b, checksum(nil, b))
	if _, err := f.WriteAt(b, 0); err != nil {
		f.Close()
		return nil, err //nolint:wrapcheck // open does
	}
	return p.sealed(f, k, salt)
}

func (p *partFolder) resume(k key, size int64) (*partFile, error) {
	f, err := os.OpenFile(p.path(k), os.O_RDWR, 0o600)
	if err != nil {
		return nil, err //nolint:wrapcheck // open begins anew
	}
	b := make([]byte, partData)
	if _, err := io.ReadFull(io.NewSectionReader(f, 0, partData), b); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		f.Close()
		return nil, err //nolint:wrapcheck // open begins anew
	}
	salt := b[partHead-4-32 : partHead-4]
	part, err := p.sealed(f, k, bytes.Clone(salt))
	if err != nil {
		return nil, err
	}
	for _, at := range []int{512, 1024} {
		v := binary.BigEndian.Uint64(b[at:])
		if checksum(nil, b[at:at+8]) == binary.BigEndian.Uint32(b[at+8:]) && v <= uint64(size) {
			part.synced = max(part.synced, int64(v))
		}
	}
	return part, nil
}

func (p *partFolder) sealed(f *os.File, k key, salt []byte) (*partFile, error) {
	sub, err := hkdf.Key(sha256.New, p.secret, salt, "towpath partial item", 32)
	var block cipher.Block
	if err == nil {
		block, err = aes.NewCipher(sub)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("seal a partial item: %w", err)
	}
	return &partFile{folder: p, key: k, file: f, block: block}, nil
}

// evictLocked removes the oldest file that nobody uses.
func (p *partFolder) evictLocked() bool {
	var oldest *key
	for k, info := range p.files {
		if !info.open && (oldest == nil || info.modified.Before(p.files[*oldest].modified)) {
			oldest = &k
		}
	}
	if oldest == nil {
		return false
	}
	p.removeLocked(*oldest)
	return true
}

func (p *partFolder) removeLocked(k key) {
	if info := p.files[k]; info != nil {
		p.used -= info.size
		delete(p.files, k)
	}
	_ = os.Remove(p.path(k))
}

// forget removes what there is of an item that nobody uses.
func (p *partFolder) forget(k key) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if info := p.files[k]; info != nil && !info.open {
		p.removeLocked(k)
	}
}

// partFile is one of them. Its methods are called by one goroutine at a time.
type partFile struct {
	folder *partFolder
	key    key
	file   *os.File
	block  cipher.Block
	synced int64
	slot   int64
	buf    []byte
}

// xor seals or opens what lies at an offset of the payload.
func (f *partFile) xor(dst, src []byte, at int64) {
	var iv, skip [aes.BlockSize]byte
	binary.BigEndian.PutUint64(iv[8:], uint64(at/aes.BlockSize))
	stream := cipher.NewCTR(f.block, iv[:])
	n := at % aes.BlockSize
	stream.XORKeyStream(skip[:n], skip[:n])
	stream.XORKeyStream(dst, src)
}

func (f *partFile) writeAt(b []byte, at int64) error {
	if cap(f.buf) < len(b) {
		f.buf = make([]byte, len(b))
	}
	sealed := f.buf[:len(b)]
	f.xor(sealed, b, at)
	if _, err := f.file.WriteAt(sealed, partData+at); err != nil {
		return fmt.Errorf("write a partial item: %w", fullDisk(err))
	}
	return nil
}

// ReadAt reads the payload.
func (f *partFile) ReadAt(b []byte, at int64) (int, error) {
	n, err := f.file.ReadAt(b, partData+at)
	f.xor(b[:n], b[:n], at)
	return n, err //nolint:wrapcheck // io.EOF must stay what it is
}

// sync makes the first position bytes durable, and that they are.
func (f *partFile) sync(position int64) error {
	if position <= f.synced {
		return nil
	}
	var b [12]byte
	binary.BigEndian.PutUint64(b[:], uint64(position))
	binary.BigEndian.PutUint32(b[8:], checksum(nil, b[:8]))
	err := f.file.Sync()
	if err == nil {
		_, err = f.file.WriteAt(b[:], 512*(1+f.slot))
	}
	if err == nil {
		err = f.file.Sync()
	}
	if err != nil {
		return fmt.Errorf("sync a partial item: %w", fullDisk(err))
	}
	f.slot = 1 - f.slot
	f.synced = position
	return nil
}

// close ends the use. The file stays unless it is of no use any more.
func (f *partFile) close(remove bool) {
	f.file.Close()
	p := f.folder
	p.mu.Lock()
	defer p.mu.Unlock()
	if info := p.files[f.key]; info != nil {
		info.open, info.modified = false, time.Now()
	}
	if remove {
		p.removeLocked(f.key)
	}
}

// fullDisk makes a lack of space recognizable.
func fullDisk(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the directory of the transfer is gone: %w", err)
	}
	return err
}
