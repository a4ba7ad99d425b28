package receipts

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Options bound a Journal. The zero value is good.
type Options struct {
	// MaxBytes and MaxAge are of what is kept. Zero means the default.
	MaxBytes int64
	MaxAge   time.Duration
	// FileBytes is when the next file is begun. Zero means a sixteenth of MaxBytes.
	FileBytes int64
	// Log may be nil.
	Log *slog.Logger
}

// The defaults: room for about 150,000 receipts, and for ten years.
const (
	DefaultMaxBytes = 64 << 20
	DefaultMaxAge   = 3653 * 24 * time.Hour
)

const (
	extension = ".log"
	// tryEvery is the pause until what could not be written is tried again, maxOwed how many receipts may wait for that.
	tryEvery = time.Second
	maxOwed  = 4096
)

// Journal is open for appending. It is safe for concurrent use; two at a time on one folder are not.
type Journal struct {
	dir    string
	opts   Options
	sealer sealer
	log    *slog.Logger

	mu     sync.Mutex
	file   *os.File
	began  time.Time // of the file
	end    place     // of what is written
	synced place     // of what is durable; in the same file
	fresh  []Entry   // between the two
	owed   []Entry   // what the disk has refused
	torn   bool      // behind end there may be half a line
	retry  bool      // a timer runs
	round  *round    // that the next sync is for; nil for none
	busy   bool      // somebody syncs
	closed bool
}

// place is where the chain stands: bytes of the file, number and hash of the last record.
type place struct {
	size int64
	seq  uint64
	hash chainHash
}

var errClosed = errors.New("the receipts are closed")

// Open reads the end of the journal in dir, making it if need be, and cuts off what a power cut has left half-written there.
func Open(dir string, key []byte, opts Options) (*Journal, error) {
	opts.MaxBytes, opts.MaxAge = positive(opts.MaxBytes, DefaultMaxBytes), positive(opts.MaxAge, DefaultMaxAge)
	opts.FileBytes = positive(opts.FileBytes, opts.MaxBytes/16)
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	s, err := newSealer(key)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of receipts: %w", err)
	}
	j := &Journal{dir: dir, opts: opts, sealer: s, log: opts.Log.With("subsystem", "receipts")}
	if err := j.resume(); err != nil {
		return nil, fmt.Errorf("open the receipts: %w", err)
	}
	return j, nil
}

func positive[T int64 | time.Duration](v, otherwise T) T {
	if v <= 0 {
		return otherwise
	}
	return v
}

// resume continues the newest file.
func (j *Journal) resume() error {
	names, err := files(j.dir)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return j.turn()
	}
	path := filepath.Join(j.dir, names[len(names)-1])
	end, err := j.findEnd(path)
	if err == nil && end == 0 && len(names) > 1 { // the machine stopped when it was just begun: the chain goes on in the one before
		if err = os.Remove(path); err == nil {
			path = filepath.Join(j.dir, names[len(names)-2])
			end, err = j.findEnd(path)
		}
	}
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0o600)
	if err != nil {
		return err //nolint:wrapcheck // Open does
	}
	if err := f.Truncate(end); err != nil {
		_ = f.Close()
		return err //nolint:wrapcheck // Open does
	}
	if _, err := f.Seek(end, io.SeekStart); err != nil {
		_ = f.Close()
		return err //nolint:wrapcheck // Open does
	}
	j.file, j.began, j.end.size = f, time.Now(), end
	if end == 0 { // not even its first line was written
		err = j.writeHead()
	}
	j.synced = j.end
	return errors.Join(err, f.Sync(), syncFolder(j.dir))
}

// findEnd takes the sequence and the chain's hash from the last whole line, and returns where it ends. No line has a zero byte: from the first one
// on the file is what a power cut has left of lines that were not synced.
func (j *Journal) findEnd(path string) (int64, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return 0, err //nolint:wrapcheck // Open does
	}
	if torn := bytes.IndexByte(content, 0); torn >= 0 {
		j.log.Warn("the last receipts were half written when the machine stopped", "file", filepath.Base(path), "bytes", len(content)-torn)
		content = content[:torn]
	}
	end := bytes.LastIndexByte(content, '\n') + 1
	if end == 0 {
		seq, err := strconv.ParseUint(strings.TrimSuffix(filepath.Base(path), extension), 16, 64)
		if err != nil {
			return 0, fmt.Errorf("the name of %s is no number", filepath.Base(path))
		}
		j.end.seq = seq - 1
		return 0, nil
	}
	begin := bytes.LastIndexByte(content[:end-1], '\n') + 1
	r, _, after, err := parseLine(content[begin : end-1])
	if err != nil {
		// It is left as it is; what follows stands on a chain of its own, and Walk says so.
		j.log.Error("the last receipt is damaged", "file", filepath.Base(path))
		return int64(end), nil //nolint:nilerr // as said
	}
	j.end.seq, j.end.hash = r.Seq, after
	return int64(end), nil
}

func files(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list the receipts: %w", err)
	}
	var names []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), extension) {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// turn begins the next file, synced.
func (j *Journal) turn() error {
	if j.file != nil {
		if err := j.file.Sync(); err != nil {
			return err //nolint:wrapcheck // the callers do
		}
		j.synced, j.fresh = j.end, nil
	}
	f, err := os.OpenFile(filepath.Join(j.dir, fmt.Sprintf("%016x%s", j.end.seq+1, extension)), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err //nolint:wrapcheck // the callers do
	}
	if j.file != nil {
		_ = j.file.Close() // it is synced
	}
	j.file, j.began, j.end.size = f, time.Now(), 0
	j.synced = j.end
	if err := errors.Join(j.writeHead(), syncFolder(j.dir)); err != nil {
		return err
	}
	return j.prune()
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err //nolint:wrapcheck // the callers do
	}
	return errors.Join(d.Sync(), d.Close())
}

func (j *Journal) writeHead() error {
	return j.write(record{From: j.end.hash.String(), Seq: j.end.seq})
}

// write appends a line.
func (j *Journal) write(r record) error {
	line, after, err := j.end.hash.line(r)
	if err != nil {
		return err
	}
	if _, err := j.file.Write(line); err != nil {
		j.torn = true
		return err //nolint:wrapcheck // the callers do
	}
	j.end = place{j.end.size + int64(len(line)), r.Seq, after}
	return nil
}

// prune removes the oldest files beyond the bounds.
func (j *Journal) prune() error {
	names, err := files(j.dir)
	if err != nil {
		return err
	}
	var total int64
	for i, name := range slices.Backward(names) {
		info, err := os.Stat(filepath.Join(j.dir, name))
		if err != nil {
			return err //nolint:wrapcheck // the callers do
		}
		total += info.Size()
		if i < len(names)-1 && (total > j.opts.MaxBytes || time.Since(info.ModTime()) > j.opts.MaxAge) {
			if err := os.Remove(filepath.Join(j.dir, name)); err != nil {
				return err //nolint:wrapcheck // the callers do
			}
		}
	}
	return nil
}

// Append adds a delivery, synced; Seq and Hash are set by it. Concurrent calls share a sync. After an error that the disk has caused the receipt is
// in memory, and tried again until the disk takes it or the process ends.
func (j *Journal) Append(e Entry) error {
	if len(e.Signed) > maxSigned {
		return fmt.Errorf("a signed receipt of %d bytes is longer than %d", len(e.Signed), maxSigned)
	}
	j.mu.Lock()
	if j.closed {
		j.mu.Unlock()
		return errClosed
	}
	if len(j.owed) >= maxOwed {
		j.mu.Unlock()
		return errors.New("too many receipts wait for the disk: this one is not kept")
	}
	j.owed = append(j.owed, e)
	if err := j.writeOwed(); err != nil {
		j.later()
		j.mu.Unlock()
		return fmt.Errorf("receipts wait in memory: %w", err)
	}
	r := j.join()
	j.mu.Unlock()
	<-r.done
	return r.err
}

// Close syncs and closes the journal.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return errClosed
	}
	err := j.writeOwed()
	j.closed = true
	if err := errors.Join(err, j.file.Sync(), j.file.Close()); err != nil {
		return fmt.Errorf("close the receipts: %w", err)
	}
	return nil
}

// Summary is what a walk found.
type Summary struct {
	Receipts int `json:"receipts"`
	// First and Last are sequence numbers; what was before First was removed because of the bounds.
	First uint64 `json:"first,omitempty"`
	Last  uint64 `json:"last,omitempty"`
	// Hash is the chain's end, in hexadecimal.
	Hash string `json:"hash"`
	// Broken says where the chain does not hold, or nothing.
	Broken string `json:"broken,omitempty"`
}

// Walk calls fn with each receipt, oldest first, up to what there is when it begins. It goes on behind a break of the chain, and says
// where the first one is. An error of fn ends it.
func (j *Journal) Walk(ctx context.Context, fn func(Entry) error) (Summary, error) {
	j.mu.Lock()
	names, err := files(j.dir)
	size := j.end.size
	j.mu.Unlock()
	if err != nil {
		return Summary{}, err
	}
	w := walk{j: j, fn: fn}
	for i, name := range names {
		bound := int64(-1)
		if i == len(names)-1 {
			bound = size
		}
		if err := w.file(ctx, name, bound); err != nil {
			return w.sum, err
		}
	}
	w.sum.Hash = w.hash.String()
	return w.sum, nil
}

type walk struct {
	j    *Journal
	fn   func(Entry) error
	sum  Summary
	seq  uint64
	hash chainHash
	any  bool
}

func (w *walk) broken(name string, line int, format string, a ...any) {
	if w.sum.Broken == "" {
		w.sum.Broken = fmt.Sprintf("%s, line %d: ", name, line) + fmt.Sprintf(format, a...)
	}
}

func (w *walk) file(ctx context.Context, name string, bound int64) error {
	f, err := os.Open(filepath.Join(w.j.dir, name))
	if errors.Is(err, os.ErrNotExist) {
		return nil // removed because of the bounds since
	}
	if err != nil {
		return fmt.Errorf("read the receipts: %w", err)
	}
	defer func() { _ = f.Close() }()
	var from io.Reader = f
	if bound >= 0 {
		from = io.LimitReader(f, bound)
	}
	lines := bufio.NewScanner(from)
	lines.Buffer(make([]byte, 0, maxLine), maxLine)
	n := 0
	for lines.Scan() {
		n++
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("read the receipts: %w", err)
		}
		if err := w.line(name, n, lines.Bytes()); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		w.broken(name, n+1, "it cannot be read: %v", err)
	}
	return nil
}

func (w *walk) line(name string, n int, line []byte) error {
	r, text, after, err := parseLine(line)
	if err != nil {
		w.broken(name, n, "%v", err)
		return nil
	}
	head := n == 1 && r.From != ""
	switch {
	case head && !w.any: // what was before is gone by right
		w.seq = r.Seq
		if b, err := parseHash(r.From); err == nil {
			w.hash = b
		}
	case head && (r.From != w.hash.String() || r.Seq != w.seq):
		w.broken(name, n, "receipts from %d on are missing before it", w.seq+1)
	case !head && r.Seq != w.seq+1:
		w.broken(name, n, "receipt %d follows %d", r.Seq, w.seq)
	}
	if head && r.From != w.hash.String() {
		if b, err := parseHash(r.From); err == nil {
			w.hash = b
		}
	}
	if w.hash.next(text) != after {
		w.broken(name, n, "it was changed, or something before it")
	}
	w.any, w.hash, w.seq = true, after, r.Seq
	if head {
		return nil
	}
	e, err := w.j.sealer.open(r, after)
	if err != nil {
		w.broken(name, n, "%v", err)
	}
	w.sum.Receipts++
	w.sum.Last = r.Seq
	if w.sum.First == 0 {
		w.sum.First = r.Seq
	}
	return w.fn(e)
}
