package history

import (
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

// Options bound a History. The zero value is good.
type Options struct {
	// MaxEvents and MaxAge are of what is kept; at least nine tenths of MaxEvents are. Zero means the default.
	MaxEvents int
	MaxAge    time.Duration
	// MaxStudies bounds the studies, the newest of which are kept. Zero means the default.
	MaxStudies int
	// Log may be nil.
	Log *slog.Logger
}

// The defaults: about 50,000 objects with three steps each in 40 MB of disk, of at most 30 days, and 2,000 studies.
const (
	DefaultMaxEvents  = 160_000
	DefaultMaxAge     = 30 * 24 * time.Hour
	DefaultMaxStudies = 2000
)

const (
	extension = ".events"
	syncAfter = time.Second
	// parts is how many files the events take at most.
	parts = 10
	// saveEvery is how often Studies are saved while events come.
	saveEvery = 5 * time.Minute
)

// History is open for appending. It is safe for concurrent use; two at a time on one folder are not.
type History struct {
	dir  string
	opts Options
	log  *slog.Logger

	mu      sync.Mutex
	closed  bool
	file    *os.File
	first   uint64    // number of the file's first event
	count   uint64    // events in the file
	began   time.Time // of the file
	syncing *time.Timer
	broken  bool // the file's end is not where it should be: the next event begins another
	studies *book
	saved   time.Time
	savedAt uint64
}

// Open reads the sums of the studies and adds what came after them.
func Open(dir string, opts Options) (*History, error) {
	if opts.MaxEvents <= 0 {
		opts.MaxEvents = DefaultMaxEvents
	}
	if opts.MaxAge <= 0 {
		opts.MaxAge = DefaultMaxAge
	}
	if opts.MaxStudies <= 0 {
		opts.MaxStudies = DefaultMaxStudies
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	h := &History{dir: dir, opts: opts, log: opts.Log.With("subsystem", "history"), studies: newBook(opts.MaxStudies, opts.MaxAge), saved: time.Now()}
	if err := h.open(); err != nil {
		return nil, fmt.Errorf("open the history: %w", err)
	}
	return h, nil
}

func (h *History) open() error {
	if err := os.MkdirAll(h.dir, 0o700); err != nil {
		return err //nolint:wrapcheck // Open does
	}
	names, err := files(h.dir)
	if err != nil {
		return err
	}
	through := h.loadStudies()
	damaged, err := h.walk(names, through, func(_ uint64, e Event) error {
		h.studies.add(e)
		return nil
	})
	if err != nil {
		return err
	}
	if damaged > 0 {
		h.log.Warn("records of the history are damaged and were left out", "records", damaged)
	}
	h.studies.expire(time.Now())
	next := through
	if len(names) > 0 {
		last := names[len(names)-1]
		size, err := wholeSize(filepath.Join(h.dir, last))
		if err != nil {
			return err
		}
		first, _ := number(last)
		next = max(next, first+uint64(size/recordSize))
	}
	h.savedAt = through
	// A new file: nothing is ever written behind what a power cut has left.
	return h.turn(next)
}

// wholeSize is that of the whole records of a file.
func wholeSize(path string) (int64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err //nolint:wrapcheck // open does
	}
	// One that was cut counts: its number may have been seen by the studies.
	return (info.Size() + recordSize - 1) / recordSize * recordSize, nil
}

// turn begins another file and removes those that are too many or too old.
func (h *History) turn(first uint64) error {
	name := filepath.Join(h.dir, fmt.Sprintf("%016x", first)+extension)
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err //nolint:wrapcheck // callers do
	}
	if h.file != nil {
		err = errors.Join(h.file.Sync(), h.file.Close())
	}
	h.file, h.first, h.count, h.began, h.broken = f, first, 0, time.Now(), false
	return errors.Join(err, h.clear())
}

// clear removes files that only hold what is too old or too much. An age is that of a file's last event.
func (h *History) clear() error {
	names, err := files(h.dir)
	if err != nil {
		return err
	}
	oldest := uint64(0)
	if n := uint64(h.opts.MaxEvents - h.opts.MaxEvents/parts); h.first > n {
		oldest = h.first - n
	}
	for i := range len(names) - 1 {
		end, _ := number(names[i+1])
		path := filepath.Join(h.dir, names[i])
		info, err := os.Stat(path)
		if err == nil && (end <= oldest || info.Size() == 0 || time.Since(info.ModTime()) > h.opts.MaxAge) {
			err = os.Remove(path)
		}
		if err != nil {
			return err //nolint:wrapcheck // callers do
		}
	}
	return nil
}

// Append notes an event. After an error it is not kept.
func (h *History) Append(e Event) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return os.ErrClosed
	}
	if h.broken || h.count >= uint64(max(h.opts.MaxEvents/parts, 1)) || time.Since(h.began) > h.opts.MaxAge/parts {
		// A number is left out for what may have been half-written.
		if err := h.turn(h.first + h.count + 1); err != nil {
			return fmt.Errorf("append to the history: %w", err)
		}
	}
	if _, err := h.file.Write(e.encode()); err != nil {
		h.broken = true
		return fmt.Errorf("append to the history: %w", err)
	}
	h.count++
	h.studies.add(e)
	if h.syncing == nil {
		h.syncing = time.AfterFunc(syncAfter, h.sync)
	}
	return nil
}

// sync makes durable what was appended, and from time to time saves the studies. Meanwhile Append, on which a sender's answer waits, does not wait
// for a slow disk.
func (h *History) sync() {
	h.mu.Lock()
	h.syncing = nil
	file := h.file
	h.mu.Unlock()
	if err := file.Sync(); err != nil && !errors.Is(err, os.ErrClosed) { // then who closed it has synced it
		h.log.Error("the history cannot be synced", "error", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return
	}
	if now := time.Now(); now.Sub(h.saved) >= saveEvery {
		h.saveLocked(now)
	}
}

func (h *History) saveLocked(now time.Time) {
	h.saved = now
	through := h.first + h.count
	if through == h.savedAt {
		return
	}
	h.studies.expire(now)
	if err := h.saveStudies(through); err != nil {
		h.log.Error("the studies cannot be saved", "error", err)
		return
	}
	h.savedAt = through
}

// Close syncs, saves and closes.
func (h *History) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil
	}
	h.closed = true
	if h.syncing != nil {
		h.syncing.Stop()
	}
	h.saveLocked(time.Now())
	return errors.Join(h.file.Sync(), h.file.Close())
}

// Studies returns the sums, the latest study first.
func (h *History) Studies() []Study {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.studies.expire(time.Now())
	return h.studies.list()
}

// Find returns the events of an object: those with its Hash, and those that name an item that has it. Damaged counts records that cannot be read.
func (h *History) Find(object Hash) (events []Event, damaged int, err error) {
	type item struct {
		queue string
		n     uint64
	}
	h.mu.Lock()
	names, err := files(h.dir)
	h.mu.Unlock()
	if err != nil || object == (Hash{}) {
		return nil, 0, err
	}
	items := map[item]bool{}
	if damaged, err = h.walk(names, 0, func(_ uint64, e Event) error {
		if e.Object == object {
			items[item{e.Queue, e.Item}] = true
		}
		return nil
	}); err != nil || len(items) == 0 {
		return nil, damaged, err
	}
	_, err = h.walk(names, 0, func(_ uint64, e Event) error {
		if items[item{e.Queue, e.Item}] && time.Since(e.At) <= h.opts.MaxAge {
			events = append(events, e)
		}
		return nil
	})
	return events, damaged, err
}

// walk calls fn with the number of each event from a number on, oldest first. A file that is gone meanwhile was too old.
func (h *History) walk(names []string, from uint64, fn func(n uint64, e Event) error) (damaged int, err error) {
	for _, name := range names {
		first, _ := number(name)
		f, err := os.Open(filepath.Join(h.dir, name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return damaged, fmt.Errorf("read the history: %w", err)
		}
		bad, err := Read(f, func(i uint64, e Event) error {
			if first+i < from {
				return nil
			}
			return fn(first+i, e)
		})
		_ = f.Close() // only read
		damaged += bad
		if err != nil {
			return damaged, err
		}
	}
	return damaged, nil
}

// Read calls fn with the place and content of each whole record of a file of events. Records that are damaged, or cut off at the end, are counted
// and left out.
func Read(r io.Reader, fn func(i uint64, e Event) error) (damaged int, err error) {
	b := make([]byte, recordSize)
	buffered := newBuffered(r)
	for i := uint64(0); ; i++ {
		switch _, err := io.ReadFull(buffered, b); {
		case errors.Is(err, io.EOF):
			return damaged, nil
		case errors.Is(err, io.ErrUnexpectedEOF):
			return damaged + 1, nil
		case err != nil:
			return damaged, fmt.Errorf("read the history: %w", err)
		}
		e, err := decode(b)
		if err != nil {
			damaged++
			continue
		}
		if err := fn(i, e); err != nil {
			return damaged, err
		}
	}
}

// files lists those of events, oldest first.
func files(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list the history: %w", err)
	}
	var names []string
	for _, e := range entries {
		if _, ok := number(e.Name()); ok {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names) // numbers have one width
	return names, nil
}

// number is that of a file's first event.
func number(name string) (uint64, bool) {
	stem, ok := strings.CutSuffix(name, extension)
	if !ok || len(stem) != 16 {
		return 0, false
	}
	n, err := strconv.ParseUint(stem, 16, 64)
	return n, err == nil
}
