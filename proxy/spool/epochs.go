package spool

import (
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/towpath/towpath/proxy/spool/seal"
)

const (
	epochsDir = "epochs"
	extEpoch  = ".epoch"
	// epochAge is how long new items share a data key.
	epochAge = time.Hour
)

// epoch is a data key and who needs it. The Spool's mutex guards it.
type epoch struct {
	id seal.EpochID
	// sealed is what its file holds; the zero value if that is missing or damaged.
	sealed seal.SealedEpoch
	// key is nil while the private key has not been there.
	key *seal.Epoch
	// refs are items and writers. kept means that also something else may need the key, such as a file that was set aside.
	refs int
	kept bool
}

// locked reports whether an entry cannot be read for want of a key.
func (e *entry) locked() bool { return e.epoch != nil && e.epoch.key == nil }

func epochName(id seal.EpochID) string { return epochsDir + "/" + id.String() + extEpoch }

// SealTo has all new items sealed to a public key; the zero value stores them plain. What is stored stays as it is.
func (s *Spool) SealTo(k seal.PublicKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sealTo = k
}

// Unlock opens with a private key what was sealed to its public half, for as long as the Spool is open, and returns how many items that
// makes readable. The key itself is not kept.
func (s *Spool) Unlock(k seal.PrivateKey) int {
	id := k.Public().ID()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.epochs {
		if e.key != nil || e.sealed.To() != id {
			continue
		}
		key, err := e.sealed.Open(k)
		if err != nil {
			s.log.Error("a data key of the queue is damaged", "epoch", e.id, "error", err)
			continue
		}
		e.key = key
	}
	return s.unlockedLocked()
}

// unlockedLocked makes available what was waiting for a key, and returns how much that is.
func (s *Spool) unlockedLocked() int {
	n := 0
	for _, e := range s.entries {
		if e.epoch == nil || !e.waiting || e.locked() {
			continue
		}
		n++
		e.waiting = false
		if e.state == StateQueued && !e.leased && e.heap == nil {
			e.queue.add(e)
		}
	}
	for _, q := range s.queues {
		q.notify()
	}
	return n
}

// LockedItems are items that a missing key keeps closed.
type LockedItems struct {
	// Key names the key pair whose private half is needed; empty if the data key itself is missing or damaged.
	Key   seal.KeyID `json:"key,omitempty"`
	Items int        `json:"items"`
}

// Locked counts what cannot be read now, by key.
func (s *Spool) Locked() []LockedItems {
	s.mu.Lock()
	defer s.mu.Unlock()
	count := map[seal.KeyID]int{}
	for _, e := range s.entries {
		if e.locked() {
			count[e.epoch.sealed.To()]++
		}
	}
	list := make([]LockedItems, 0, len(count))
	for key, n := range count {
		list = append(list, LockedItems{key, n})
	}
	slices.SortFunc(list, func(a, b LockedItems) int { return strings.Compare(string(a.Key), string(b.Key)) })
	return list
}

// Keys names the key pairs that what is stored was sealed to, sorted. The private half of any other can be forgotten.
func (s *Spool) Keys() []seal.KeyID {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []seal.KeyID
	for _, e := range s.epochs {
		if id := e.sealed.To(); id != "" && !slices.Contains(list, id) {
			list = append(list, id)
		}
	}
	slices.Sort(list)
	return list
}

// borrowEpoch returns the data key for a new item and counts it; nil when items are stored plain. The key is on disk, sealed and synced.
func (s *Spool) borrowEpoch() (*epoch, error) {
	s.epochMu.Lock()
	defer s.epochMu.Unlock()
	s.mu.Lock()
	to, now, current := s.sealTo, time.Now(), s.current
	if to.IsZero() {
		s.mu.Unlock()
		return nil, nil //nolint:nilnil // as said
	}
	same := current != nil && current.sealed.To() == to.ID()
	if same && now.Sub(s.began) < epochAge {
		current.refs++
		s.mu.Unlock()
		return current, nil
	}
	s.mu.Unlock()
	e, err := s.makeEpoch(to)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil:
		s.epochs[e.id], s.current, s.began = e, e, now
		if current != nil {
			s.retireLocked(current)
		}
	case same:
		s.log.Warn("the data key of the queue could not be changed", "error", err)
		e = current
	default:
		return nil, err
	}
	e.refs++
	return e, nil
}

// makeEpoch stores a new data key, synced before anything needs it.
func (s *Spool) makeEpoch(to seal.PublicKey) (*epoch, error) {
	key := seal.NewEpoch()
	sealed, err := key.Seal(to)
	if err != nil {
		return nil, err //nolint:wrapcheck // says all
	}
	name := epochName(key.ID())
	if err := s.writeFile(name+extTemporary, sealed.Bytes()); err != nil {
		return nil, fmt.Errorf("store a data key: %w", err)
	}
	if err := s.vol.rename(name+extTemporary, name); err != nil {
		return nil, fmt.Errorf("store a data key: %w", err)
	}
	if err := s.vol.sync(epochsDir); err != nil {
		return nil, fmt.Errorf("store a data key: %w", err)
	}
	return &epoch{id: key.ID(), sealed: sealed, key: key}, nil
}

// returnEpochLocked is the opposite of counting an item or writer. When the last is gone nothing can open what it was.
func (s *Spool) returnEpochLocked(e *epoch) {
	if e == nil {
		return
	}
	e.refs--
	s.retireLocked(e)
}

func (s *Spool) retireLocked(e *epoch) {
	if e.refs > 0 || e.kept || e == s.current {
		return
	}
	if err := s.vol.remove(epochName(e.id)); err != nil {
		s.log.Warn("a data key that is not needed any more could not be removed", "error", err) // the next Open tries again
	}
	if e.key != nil {
		e.key.Wipe()
	}
	delete(s.epochs, e.id)
}

// keepEpochLocked says that something else may need the key of an entry: a file that was set aside, or could not be removed for sure.
func keepEpochLocked(e *epoch) {
	if e != nil {
		e.kept = true
	}
}

// loadEpochs reads all data keys.
func (s *Spool) loadEpochs() error {
	names, err := s.vol.list(epochsDir)
	if err != nil {
		return err
	}
	for _, name := range names {
		stem, ext, _ := strings.Cut(name, ".")
		switch "." + ext {
		case extEpoch:
			sealed, err := s.readEpoch(name)
			if starved(err) {
				return err
			}
			if err != nil || sealed.ID().String() != stem {
				s.log.Error("a data key of the queue is damaged and was left where it is", "file", name, "error", err)
				continue
			}
			s.epochs[sealed.ID()] = &epoch{id: sealed.ID(), sealed: sealed}
		case extEpoch + extTemporary:
			if err := s.vol.remove(epochsDir + "/" + name); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Spool) readEpoch(name string) (seal.SealedEpoch, error) {
	f, err := s.vol.open(epochsDir + "/" + name)
	if err != nil {
		return seal.SealedEpoch{}, err
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.NewSectionReader(f, 0, int64(seal.SealedEpochSize)+1))
	if err != nil {
		return seal.SealedEpoch{}, fmt.Errorf("read a data key: %w", err)
	}
	return seal.ParseSealedEpoch(text) //nolint:wrapcheck // says all
}

// epochOfLocked finds the data key of a stored item. One that is missing is counted all the same: its items wait for it.
func (s *Spool) epochOfLocked(d description) *epoch {
	if !d.sealed {
		return nil
	}
	e := s.epochs[d.epoch]
	if e == nil {
		e = &epoch{id: d.epoch, kept: true}
		s.epochs[d.epoch] = e
	}
	e.refs++
	return e
}

// sweepEpochs removes the data keys that no item needs, nor any file that was set aside.
func (s *Spool) sweepEpochs() error {
	names, err := s.vol.list(quarantineDir)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range names {
		id, sealed, err := s.epochInHead(quarantineDir + "/" + name)
		switch {
		case err != nil || sealed && s.epochs[id] == nil:
			return nil // any key may be needed
		case sealed:
			s.epochs[id].kept = true
		}
	}
	for _, e := range s.epochs {
		s.retireLocked(e)
	}
	return nil
}

// epochInHead reads which data key a damaged file needs; an error means that it does not say.
func (s *Spool) epochInHead(name string) (id seal.EpochID, sealed bool, err error) {
	f, err := s.vol.open(name)
	if err != nil {
		return id, false, err
	}
	defer func() { _ = f.Close() }()
	head, err := io.ReadAll(io.NewSectionReader(f, 0, int64(sealedHead)))
	switch {
	case err != nil:
		return id, false, fmt.Errorf("read the head of an item: %w", err)
	case strings.HasPrefix(string(head), headMark) || len(head) < sealedHead:
		return id, false, nil // plain, or nothing of a payload
	case !strings.HasPrefix(string(head), sealedMark):
		return id, false, fmt.Errorf("%w: %w", ErrCorrupt, fs.ErrInvalid)
	}
	copy(id[:], head[len(sealedMark):])
	return id, true, nil
}
