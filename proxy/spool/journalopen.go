package spool

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// found is an item of the journal at a start.
type found struct {
	record
	segment *segment
}

// loaded is a segment at a start.
type loaded struct {
	*segment
	contents
	length int64 // as its name says, -1 for one that was not closed
	// another of its number is there: the process ended while the damaged one of the two was replaced.
	another bool
}

// load reads all segments and returns the items that are in them. What is half written is cut off, what is damaged is set aside.
func (j *journal) load(names []string) (map[ID]found, error) {
	slices.Sort(names) // by number
	var list []loaded
	gone := map[ID]bool{}
	foreign := 0
	for _, name := range names {
		if strings.HasSuffix(name, extTemporary) {
			if err := j.spool.vol.remove(journalDir + "/" + name); err != nil {
				return nil, err
			}
			continue
		}
		number, salt, length, ok := parseSegmentName(name)
		if !ok {
			foreign++
			continue
		}
		l, err := j.scan(&segment{number: number, salt: salt, name: journalDir + "/" + name}, length)
		if err != nil {
			return nil, err
		}
		if last := len(list) - 1; last >= 0 && list[last].number == number {
			list[last].another, l.another = true, true
		}
		for _, r := range l.records {
			gone[r.id] = gone[r.id] || r.kind == recordGone
		}
		list = append(list, l)
	}
	if foreign > 0 {
		j.spool.log.Warn("files that are not of the queue lie in its journal's directory and are left alone", "files", foreign)
	}
	items := map[ID]found{}
	for _, l := range list {
		l.damaged = slices.DeleteFunc(l.damaged, func(d region) bool { return d.id != "" && gone[d.id] }) // nobody needs it
		if err := j.take(l, items); err != nil {
			return nil, err
		}
	}
	return items, j.spool.vol.sync(journalDir)
}

// scan reads a segment.
func (j *journal) scan(seg *segment, length int64) (loaded, error) {
	content, err := j.read(seg.name)
	if err != nil {
		return loaded{}, err
	}
	c, err := readContents(content, seg.salt, length)
	return loaded{segment: seg, contents: c, length: length}, err
}

// take leaves a segment closed and sound, and replays it.
func (j *journal) take(l loaded, items map[ID]found) (err error) {
	l.size = l.end
	if l.torn > 0 {
		j.spool.log.Info("the end of the queue's journal was half written when the machine stopped; nobody had been answered for it", "bytes", l.torn)
	}
	for _, d := range l.damaged {
		j.spool.log.Error("a part of the queue's journal is damaged and is set aside", "segment", newID(l.number), "bytes", d.to-d.from, "item", d.id)
	}
	switch {
	case len(l.damaged) > 0 && l.another:
		j.setAside(l.name, l.number)
		return nil
	case len(l.damaged) > 0 || l.headless:
		if err = j.replace(&l); err == nil {
			break
		}
		j.spool.log.Error("the sound part of the queue's journal could not be copied, the next start tries again", "error", err)
		l.spoiled = len(l.damaged) > 0
		err = j.sync(l.name)
	case l.length < 0:
		err = j.settle(l.segment)
	}
	if err != nil || l.size == 0 {
		return err
	}
	j.segments = append(j.segments, l.segment)
	j.size.Add(l.size)
	for _, r := range l.records {
		j.replay(items, l.segment, r)
	}
	return nil
}

func (j *journal) replay(items map[ID]found, seg *segment, r record) {
	if n, _ := r.id.sequence(); n >= j.spool.next {
		j.spool.next = n + 1
	}
	switch r.kind {
	case recordItem:
		items[r.id] = found{r, seg}
	case recordState:
		if f, there := items[r.id]; there {
			f.ext = r.ext
			items[r.id] = f
		}
	case recordGone:
		delete(items, r.id)
	case recordMarked: // nobody's
	}
}

// read returns what a segment holds. What the disk does not give is zero: the rest is to be had all the same.
func (j *journal) read(name string) ([]byte, error) {
	f, err := j.spool.vol.open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	b := make([]byte, min(size, maxSegment))
	_, err = f.ReadAt(b, 0)
	switch {
	case err == nil:
		return b, nil
	case starved(err):
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	salvage(f, b, 0)
	return b, nil
}

// salvage reads from there on what the disk gives. The rest is zero.
func salvage(f io.ReaderAt, b []byte, from int64) {
	const block = 4 << 10
	for at, end := from, from+int64(len(b)); at < end; {
		next := min(end, (at/block+1)*block)
		part := b[at-from : next-from]
		if _, err := f.ReadAt(part, at); err != nil {
			clear(part)
		}
		at = next
	}
}

// settle closes a segment that a process left open. What it left may not be synced yet, and will now be counted on.
func (j *journal) settle(seg *segment) error {
	if seg.size > 0 {
		if err := j.sync(seg.name); err != nil {
			return err
		}
	}
	return j.finish(seg)
}

func (j *journal) sync(name string) error {
	f, err := j.spool.vol.open(name)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("sync the journal: %w", err)
	}
	return nil
}

// replace puts what is sound of a segment into a new one and sets the old one aside, whole: a later attempt may read more of it.
func (j *journal) replace(l *loaded) error {
	s, from := j.spool, l.name
	content, err := j.read(from)
	if err != nil {
		return err
	}
	b, salt := []byte(segmentMark), newSalt()
	records := slices.Clone(l.records)
	for i := range records {
		r := &records[i]
		if int64(len(content)) < r.end() {
			return fmt.Errorf("%w: it has become shorter", ErrCorrupt)
		}
		body := content[r.at+recordHead : r.end()]
		r.at, r.salt, r.group = int64(len(b)), salt, int64(len(segmentMark))
		b = appendRecord(b, *r, body)
	}
	to := closedName(l.number, salt, int64(len(b)))
	temporary := journalDir + "/" + string(newID(l.number)) + extTemporary
	if err := s.writeFile(temporary, b); err != nil {
		return err
	}
	if err := s.vol.rename(temporary, to); err != nil {
		return err
	}
	l.name, l.salt, l.size, l.records = to, salt, int64(len(b)), records
	if err := s.vol.sync(journalDir); err != nil {
		return err
	}
	if len(l.damaged) == 0 { // only its mark was bad
		return s.vol.remove(from)
	}
	j.setAside(from, l.number)
	return nil
}

// setAside moves a damaged segment out of the way, and reports whether it is.
func (j *journal) setAside(name string, number uint64) bool {
	j.spool.mu.Lock()
	defer j.spool.mu.Unlock()
	return j.spool.quarantineLocked(name, string(newID(number)))
}

// recoverJournal takes the items of the journal into the books, but for those of which a mark says that they are gone. It returns what is to be
// forgotten in the journal, too, when all is in the books, and the damaged among it.
func (s *Spool) recoverJournal(items map[ID]found, marked map[ID]bool) (forget []ID, damaged []*entry, err error) {
	bySegment := map[*segment][]found{}
	for id, f := range items {
		if marked[id] {
			forget = append(forget, id)
		} else {
			bySegment[f.segment] = append(bySegment[f.segment], f)
		}
	}
	for _, seg := range s.journal.segments {
		list := bySegment[seg]
		if len(list) == 0 {
			continue
		}
		bad, err := s.recoverSegment(seg, list)
		if err != nil {
			return nil, nil, err
		}
		damaged = append(damaged, bad...)
	}
	return forget, damaged, nil
}

// recoverSegment takes items of one segment into the books.
func (s *Spool) recoverSegment(seg *segment, list []found) (damaged []*entry, err error) {
	file, err := s.vol.open(seg.name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	for _, f := range list {
		e := &entry{id: f.id, ext: f.ext, state: stateOf(f.ext), shared: true, segment: seg, at: f.at + recordHead, bytes: recordHead + f.size}
		d, err := readDescription(e.section(file), e.id)
		if starved(err) {
			return nil, err
		}
		s.mu.Lock()
		seg.items++
		seg.bytes += e.bytes
		if err != nil {
			s.log.Error("an item is damaged and is set aside", "item", e.id, "error", err)
			damaged = append(damaged, e)
		} else {
			s.recoverLocked(e, d)
		}
		s.mu.Unlock()
	}
	return damaged, nil
}

// forgetShared ends what recovery has found to be gone or damaged.
func (s *Spool) forgetShared(gone []ID, damaged []*entry) {
	for _, e := range damaged {
		if !s.setAside(e) {
			s.mu.Lock()
			e.segment.stuck++
			s.mu.Unlock()
		}
	}
	for _, id := range gone {
		if s.journal.do(&request{kind: recordGone, id: id}) == nil {
			_ = s.vol.remove(itemName(id, extGone)) // otherwise the next Open does it
		}
	}
}
