package dicom

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"sync"

	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/dicom/pdu"
	"github.com/towpath/towpath/proxy/dicom/ul"
)

// ArchiveConfig says what an Archive takes and where it puts it.
type ArchiveConfig struct {
	// Dir is an existing directory that belongs to this Archive alone.
	Dir string
	// AETitle is the called AE title it answers to; empty means any.
	AETitle string
	Limits  Limits
	// Log may be nil.
	Log *slog.Logger
	// OnStored, if not nil, is called after an object is safe and before its sender is told. It must be quick.
	OnStored func(StoredObject)
}

// StoredObject is one object of an Archive. It identifies a patient's object: show it, but do not log it.
type StoredObject struct {
	SOPInstance string
	// SHA256 and Size are those of the data set's bytes.
	SHA256 [sha256.Size]byte
	Size   int64
	// Path is the name of the file inside Dir.
	Path string
	// Again is true if the same object with the same bytes was there already.
	Again bool
}

// Archive is a small storage service: it answers C-ECHO and writes each object it gets by C-STORE to a DICOM file named by its SOP
// instance UID. Success is said when file and directory are synced. It never overwrites: the same object with other bytes is kept
// beside the first, with its digest in the name.
type Archive struct {
	cfg  ArchiveConfig
	root *os.Root
	mu   sync.Mutex // held while a name is chosen and taken
}

// incoming starts the names of files that are being written.
const incoming = ".incoming-"

// NewArchive opens the directory, and removes from it what a crash has left half written: nobody was told that it is safe. Close
// ends it.
func NewArchive(cfg ArchiveConfig) (*Archive, error) {
	if cfg.AETitle != "" {
		if err := pdu.CheckAETitle(cfg.AETitle); err != nil {
			return nil, err
		}
	}
	root, err := os.OpenRoot(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("open the archive's directory: %w", err)
	}
	cfg.Limits, cfg.Log = cfg.Limits.withDefaults(), orDiscard(cfg.Log)
	ar := &Archive{cfg: cfg, root: root}
	if err := ar.removeLeftovers(); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return ar, nil
}

func (ar *Archive) removeLeftovers() error {
	left, err := fs.Glob(ar.root.FS(), incoming+"*")
	if err != nil {
		return err
	}
	for _, name := range left {
		if err := ar.root.Remove(name); err != nil {
			return fmt.Errorf("remove what a crash has left: %w", err)
		}
	}
	return nil
}

// Close gives the directory back. Associations under way fail.
func (ar *Archive) Close() error { return ar.root.Close() }

// Serve serves one association.
func (ar *Archive) Serve(ctx context.Context, c net.Conn) proxy.Result {
	in, err := ul.Receive(ctx, c, ar.cfg.Limits.upper(ar.cfg.Log))
	if err != nil {
		return ended(proxy.Result{}, err)
	}
	res := proxy.Result{Calling: printable(in.RQ.CallingAE), Called: printable(in.RQ.CalledAE)}
	if ar.cfg.AETitle != "" && in.RQ.CalledAE != ar.cfg.AETitle {
		return refuse(ctx, in, res, pdu.UserCalledAE, unknownAE(in.RQ.CalledAE, []string{ar.cfg.AETitle}))
	}
	p := &provider{limits: ar.cfg.Limits, log: ar.cfg.Log, open: ar.create}
	return p.serve(ctx, in, res)
}

// fileWriter writes one object to a temporary file.
type fileWriter struct {
	ar     *Archive
	object object
	name   string
	f      *os.File
	w      *bufio.Writer
	hash   hash.Hash
	size   int64
}

func (ar *Archive) create(o object) (storeWriter, error) {
	name := incoming + rand.Text()
	f, err := ar.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, withoutPath(err)
	}
	w := &fileWriter{ar: ar, object: o, name: name, f: f, w: bufio.NewWriterSize(f, 64<<10), hash: sha256.New()}
	meta := Part10Meta{
		TransferSyntax: o.TransferSyntax, SOPClass: o.SOPClass, SOPInstance: o.SOPInstance, SourceAE: printable(o.CallingAE),
	}
	if _, err := w.w.Write(meta.AppendPart10(nil)); err != nil {
		w.Abort()
		return nil, withoutPath(err)
	}
	return w, nil
}

func (w *fileWriter) Write(b []byte) (int, error) {
	n, err := w.w.Write(b)
	w.hash.Write(b[:n])
	w.size += int64(n)
	return n, withoutPath(err)
}

// Abort removes the file.
func (w *fileWriter) Abort() {
	_ = w.f.Close() // it goes anyway
	if err := w.ar.root.Remove(w.name); err != nil {
		w.ar.cfg.Log.Warn("temporary file not removed", "error", withoutPath(err))
	}
}

// Commit syncs the file and gives it its name.
func (w *fileWriter) Commit() error {
	if err := errors.Join(w.w.Flush(), w.f.Sync()); err != nil {
		w.Abort()
		return withoutPath(err)
	}
	stored := StoredObject{SOPInstance: w.object.SOPInstance, SHA256: [sha256.Size]byte(w.hash.Sum(nil)), Size: w.size}
	if err := w.ar.place(w.name, &stored); err != nil {
		w.Abort()
		return withoutPath(err)
	}
	if stored.Again {
		w.Abort()
	} else if err := errors.Join(w.f.Close(), w.ar.syncDir()); err != nil {
		return withoutPath(err)
	}
	if w.ar.cfg.OnStored != nil {
		w.ar.cfg.OnStored(stored)
	}
	return nil
}

// place renames temp to the first of its two possible names that is free and notes it in o. If one of them holds the same data
// set already, it notes that and leaves temp where it is. Files never change once they have their name, so that only taking a
// name needs the lock.
func (ar *Archive) place(temp string, o *StoredObject) error {
	for _, name := range []string{o.SOPInstance + ".dcm", o.SOPInstance + "." + hex.EncodeToString(o.SHA256[:8]) + ".dcm"} {
		taken, err := ar.take(temp, name)
		if err != nil {
			return err
		}
		if !taken {
			f, err := ar.root.Open(name)
			if err != nil {
				return err
			}
			sum, _, err := digest(f)
			_ = f.Close() // only read
			if err != nil || sum != o.SHA256 {
				continue // another object, or a file that was damaged since
			}
			o.Again = true
		}
		o.Path = name
		return nil
	}
	return errors.New("both names of an object are taken by files with other contents")
}

// take renames temp to name unless that exists.
func (ar *Archive) take(temp, name string) (bool, error) {
	ar.mu.Lock()
	defer ar.mu.Unlock()
	if _, err := ar.root.Lstat(name); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	return true, ar.root.Rename(temp, name)
}

func (ar *Archive) syncDir() error {
	d, err := ar.root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// withoutPath takes file names, which hold UIDs of objects, out of an error.
func withoutPath(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return fmt.Errorf("%s: %w", pe.Op, pe.Err)
	}
	if le, ok := errors.AsType[*os.LinkError](err); ok {
		return fmt.Errorf("%s: %w", le.Op, le.Err)
	}
	return err
}
