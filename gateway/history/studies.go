package history

import (
	"bufio"
	"cmp"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/renameio/v2"
)

const (
	studiesFile = "studies.json"
	// maxStudiesFile bounds it in bytes.
	maxStudiesFile = 8 << 20
	maxCallers     = 4
	maxRecent      = 8
)

// Study is what passed of one study through one queue.
type Study struct {
	Queue string `json:"queue"`
	Study Hash   `json:"-"`
	// Associations brought Objects of Bytes; Delivered and Dropped are what became of them, as far as they are gone.
	Associations int   `json:"associations"`
	Objects      int   `json:"objects"`
	Bytes        int64 `json:"bytes"`
	Delivered    int   `json:"delivered"`
	Dropped      int   `json:"dropped,omitempty"`
	// First and Last are when something happened.
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
	// Callers are AE titles with their addresses, at most four.
	Callers []string `json:"callers,omitempty"`

	recent []string // associations
}

type studyKey struct {
	queue string
	study Hash
}

// book sums up.
type book struct {
	most    int
	age     time.Duration
	studies map[studyKey]*Study
}

func newBook(most int, age time.Duration) *book {
	return &book{most: most, age: age, studies: map[studyKey]*Study{}}
}

// add counts an event of an object whose study is known.
func (b *book) add(e Event) {
	if e.Study == (Hash{}) || e.Step != Taken && e.Step != Delivered && e.Step != Dropped {
		return
	}
	k := studyKey{e.Queue, e.Study}
	s := b.studies[k]
	if s == nil {
		if len(b.studies) >= b.most+b.most/parts+1 {
			b.expire(e.At)
		}
		s = &Study{Queue: e.Queue, Study: e.Study, First: e.At, Last: e.At}
		b.studies[k] = s
	}
	if e.At.Before(s.First) {
		s.First = e.At
	}
	if e.At.After(s.Last) {
		s.Last = e.At
	}
	switch e.Step {
	case Taken:
		s.Objects++
		s.Bytes += e.Size
		s.call(e)
	case Delivered:
		s.Delivered++
	case Dropped:
		s.Dropped++
	default:
	}
}

// call notes who sent an object.
func (s *Study) call(e Event) {
	if e.Association != "" && !slices.Contains(s.recent, e.Association) {
		s.Associations++
		if s.recent = append(s.recent, e.Association); len(s.recent) > maxRecent {
			s.recent = s.recent[1:]
		}
	}
	caller := e.Calling
	if e.Source.IsValid() {
		caller += " at " + e.Source.String()
	}
	if caller != "" && !slices.Contains(s.Callers, caller) && len(s.Callers) < maxCallers {
		s.Callers = append(s.Callers, caller)
	}
}

// expire forgets the oldest of too many, and what is too old.
func (b *book) expire(now time.Time) {
	for k, s := range b.studies {
		if now.Sub(s.Last) > b.age {
			delete(b.studies, k)
		}
	}
	if len(b.studies) <= b.most {
		return
	}
	for _, s := range b.list()[b.most:] {
		delete(b.studies, studyKey{s.Queue, s.Study})
	}
}

// list copies them, the latest first.
func (b *book) list() []Study {
	out := make([]Study, 0, len(b.studies))
	for _, s := range b.studies {
		c := *s
		c.Callers = slices.Clone(s.Callers)
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b Study) int {
		return cmp.Or(b.Last.Compare(a.Last), cmp.Compare(a.Queue, b.Queue), slices.Compare(a.Study[:], b.Study[:]))
	})
	return out
}

// savedStudies is the file.
type savedStudies struct {
	// Through is the number of the first event that is not in Studies.
	Through uint64       `json:"through"`
	Studies []savedStudy `json:"studies"`
}

type savedStudy struct {
	Study
	Hash   string   `json:"hash"`
	Recent []string `json:"recent,omitempty"`
}

func (h *History) saveStudies(through uint64) error {
	out := savedStudies{Through: through}
	for _, s := range h.studies.list() {
		out.Studies = append(out.Studies, savedStudy{Study: s, Hash: hex.EncodeToString(s.Study[:]), Recent: s.recent})
	}
	b, err := json.Marshal(out)
	if err != nil {
		return fmt.Errorf("encode the studies: %w", err)
	}
	// What the file says must be of events that are safe.
	if err := h.file.Sync(); err != nil {
		return fmt.Errorf("sync the history: %w", err)
	}
	if err := renameio.WriteFile(filepath.Join(h.dir, studiesFile), b, 0o600); err != nil {
		return fmt.Errorf("save the studies: %w", err)
	}
	return nil
}

// loadStudies returns the number of the first event that is not in what was saved. A damaged file is as none: what the events tell is there still.
func (h *History) loadStudies() (through uint64) {
	in, err := readStudies(filepath.Join(h.dir, studiesFile))
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			h.log.Warn("the sums of the studies are lost; they are made anew from the events there are", "error", err)
		}
		return 0
	}
	for _, s := range in.Studies[:min(len(in.Studies), h.opts.MaxStudies)] {
		var key Hash
		if n, err := hex.Decode(key[:], []byte(s.Hash[:min(len(s.Hash), 2*len(key))])); err != nil || n != len(key) {
			continue
		}
		c := s.Study
		c.Study, c.recent = key, s.Recent[:min(len(s.Recent), maxRecent)]
		c.Callers = c.Callers[:min(len(c.Callers), maxCallers)]
		h.studies.studies[studyKey{c.Queue, key}] = &c
	}
	return in.Through
}

func readStudies(path string) (savedStudies, error) {
	var in savedStudies
	f, err := os.Open(path)
	if err != nil {
		return in, fmt.Errorf("read the studies: %w", err)
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxStudiesFile+1))
	if err == nil && len(b) > maxStudiesFile {
		err = errors.New("the file is too long")
	}
	if err == nil {
		err = json.Unmarshal(b, &in)
	}
	if err != nil {
		return in, fmt.Errorf("read the studies: %w", err)
	}
	return in, nil
}

// newBuffered reads some hundred records at a time.
func newBuffered(r io.Reader) io.Reader { return bufio.NewReaderSize(r, 256*recordSize) }
