package relay

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"time"

	"github.com/google/renameio/v2"

	"github.com/towpath/towpath/tunnel/wgkey"
)

const (
	fileFormat = 1
	// maxFile is what a file with all that a relay takes has at most, in bytes.
	maxFile = 128 << 20
)

// saved is what a relay goes on from. It holds public keys and addresses, and nothing that opens a packet.
type saved struct {
	Format    int          `json:"format"`
	Admission Admission    `json:"admission"`
	Places    []savedPlace `json:"places,omitempty"`
	Sessions  []savedFlow  `json:"sessions,omitempty"`
}

type savedPlace struct {
	Key   wgkey.PublicKey `json:"key"`
	At    netip.AddrPort  `json:"at"`
	Seen  time.Time       `json:"seen"`
	Until time.Time       `json:"until"`
}

type savedFlow struct {
	From  savedEnd  `json:"from"`
	To    savedEnd  `json:"to"`
	Open  bool      `json:"open,omitempty"`
	Until time.Time `json:"until"`
}

type savedEnd struct {
	Key   wgkey.PublicKey `json:"key"`
	At    netip.AddrPort  `json:"at"`
	Index uint32          `json:"index"`
}

// save returns what the Table would go on from.
func (t *Table) save() saved {
	s := saved{Format: fileFormat, Admission: t.admission}
	for at, m := range t.at {
		s.Places = append(s.Places, savedPlace{m.Key, at, m.seen.Round(0), m.until.Round(0)})
	}
	t.sessions.each(func(f *flow) {
		s.Sessions = append(s.Sessions, savedFlow{
			From: savedEnd{f.from.who.Key, f.from.at, f.from.index}, To: savedEnd{f.to.who.Key, f.to.at, f.to.index},
			Open: f.stage == open, Until: f.until.Round(0),
		})
	})
	return s
}

// restore takes what save returned, before anything else is told to the Table. What is over by now, or makes no sense, is left out.
func (t *Table) restore(now time.Time, s saved) error {
	if s.Format != fileFormat {
		return fmt.Errorf("it has format %d, and this program reads %d", s.Format, fileFormat)
	}
	if err := t.Admit(s.Admission); err != nil {
		return err
	}
	for _, p := range s.Places {
		if m := t.members[p.Key]; m != nil && p.At.IsValid() && now.Before(p.Until) && p.Until.Sub(now) <= provenFor {
			m.seen = p.Seen
			t.move(m, p.At, p.Until)
		}
	}
	for _, f := range s.Sessions {
		t.resume(now, f)
	}
	return nil
}

func (t *Table) resume(now time.Time, s savedFlow) {
	a, b := t.members[s.From.Key], t.members[s.To.Key]
	if a == nil || b == nil || !now.Before(s.Until) || s.Until.Sub(now) > sessionLife || !s.From.At.IsValid() || !s.To.At.IsValid() || s.From.At == s.To.At {
		return
	}
	of := a.mates[b]
	if of == nil || len(of.sessions) >= maxPairSessions || t.sessions.size >= t.limits.Sessions {
		return
	}
	f := &flow{pair: of, from: end{a, s.From.At, s.From.Index}, to: end{b, s.To.At, s.To.Index}, stage: answered, used: now}
	if s.Open {
		f.stage = open
	}
	if !t.route(f) {
		return
	}
	of.sessions = append(of.sessions, f)
	t.sessions.add(f, now)
	f.until = s.Until
}

// readFile returns what was saved; a file that is not there is an empty one.
func readFile(path string) (saved, error) {
	s := saved{Format: fileFormat}
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("read the relay's table: %w", err)
	}
	if st.Size() > maxFile {
		return s, fmt.Errorf("the relay's table %s has %d bytes, which no relay has written", path, st.Size())
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return s, fmt.Errorf("read the relay's table: %w", err)
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return s, fmt.Errorf("read the relay's table %s: %w", path, err)
	}
	return s, nil
}

// writeFile replaces the file, synced, so that after a power cut there is the old one or the new one.
func writeFile(path string, s saved) error {
	b, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode the relay's table: %w", err)
	}
	if err := renameio.WriteFile(path, b, 0o600); err != nil {
		return fmt.Errorf("write the relay's table: %w", err)
	}
	return nil
}
