package poll

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"
)

// study is what is known of one study.
type study struct {
	UID string `json:"uid"`
	Day string `json:"day"` // in whose answer it was, 2006-01-02
	// Count is what the archive said last (-1: nothing), Found the objects that it was asked for when it had last changed.
	Count int      `json:"count"`
	Found int      `json:"found,omitempty"`
	Got   []string `json:"got,omitempty"` // UIDs of the objects that are in the queue or beyond
	// Changed is when the count changed last; Checked that all that was found then was fetched.
	Changed time.Time `json:"changed"`
	Whole   bool      `json:"whole,omitempty"`
	// Unwanted studies have none of the modalities.
	Unwanted bool      `json:"unwanted,omitempty"`
	Tries    int       `json:"tries,omitempty"`
	Next     time.Time `json:"next,omitzero"`
	Error    string    `json:"error,omitempty"`
}

// entry is one line of the journal: the newest of each kind counts.
type entry struct {
	Study *study `json:"study,omitempty"`
	// Until is the end of the last round that saw everything.
	Until time.Time `json:"until,omitzero"`
}

// maxLine bounds a line of the journal: UIDs of 200,000 objects.
const maxLine = 16 << 20

// journal is a file to which lines are appended. It is written anew when it is opened, with what still counts.
type journal struct {
	path    string
	file    *os.File
	studies map[string]*study
	until   time.Time
}

// openJournal reads what is there. A last line that a crash has cut is dropped: what it said will be found out again.
func openJournal(path string) (*journal, error) {
	j := &journal{path: path, studies: map[string]*study{}}
	f, err := os.Open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("open the journal of polling: %w", err)
	default:
		err := j.read(f)
		_ = f.Close() // only read
		if err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of the journal of polling: %w", err)
	}
	return j, j.rewrite()
}

func (j *journal) read(f *os.File) error {
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, maxLine)
	var bad error
	for lines.Scan() {
		if bad != nil {
			return fmt.Errorf("the journal of polling (%s) is damaged: %w; move it away to begin anew", j.path, bad)
		}
		var e entry
		if bad = json.Unmarshal(lines.Bytes(), &e); bad != nil {
			continue // an error only if something follows
		}
		if e.Study != nil {
			j.studies[e.Study.UID] = e.Study
		}
		if !e.Until.IsZero() {
			j.until = e.Until
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read the journal of polling: %w", err)
	}
	return nil
}

// rewrite replaces the file by one that holds each study once, and opens it to append.
func (j *journal) rewrite() error {
	var b []byte
	add := func(e entry) error {
		line, err := json.Marshal(e)
		b = append(append(b, line...), '\n')
		return err
	}
	for _, s := range j.studies {
		if err := add(entry{Study: s}); err != nil {
			return fmt.Errorf("write the journal of polling: %w", err)
		}
	}
	if !j.until.IsZero() {
		if err := add(entry{Until: j.until}); err != nil {
			return fmt.Errorf("write the journal of polling: %w", err)
		}
	}
	if err := renameio.WriteFile(j.path, b, 0o600); err != nil {
		return fmt.Errorf("write the journal of polling: %w", err)
	}
	if err := j.close(); err != nil {
		return err
	}
	f, err := os.OpenFile(j.path, os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open the journal of polling: %w", err)
	}
	j.file = f
	return nil
}

func (j *journal) close() error {
	if j.file == nil {
		return nil
	}
	err := j.file.Close()
	j.file = nil
	if err != nil {
		return fmt.Errorf("close the journal of polling: %w", err)
	}
	return nil
}

// write appends and syncs.
func (j *journal) write(e entry) error {
	line, err := json.Marshal(e)
	if err == nil {
		_, err = j.file.Write(append(line, '\n'))
	}
	if err == nil {
		err = j.file.Sync()
	}
	if err != nil {
		return fmt.Errorf("write the journal of polling: %w", err)
	}
	return nil
}

// forget drops studies of days before first.
func (j *journal) forget(first time.Time) error {
	dropped := false
	for uid, s := range j.studies {
		if s.Day < first.Format(time.DateOnly) && (s.Whole || s.Unwanted) {
			delete(j.studies, uid)
			dropped = true
		}
	}
	if !dropped {
		return nil
	}
	return j.rewrite()
}
