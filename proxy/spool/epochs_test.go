package spool

import (
	"errors"
	"strings"
	"testing"

	"github.com/towpath/towpath/proxy/spool/seal"
)

// TestKeyOfWhatMayComeBack fails the sync of a commit, or of a removal: the item may be there after a power cut, so its data key must be.
func TestKeyOfWhatMayComeBack(t *testing.T) {
	broken := errors.New("input/output error")
	failing := func(op string) error {
		if op == "sync items" {
			return broken
		}
		return nil
	}
	for name, do := range map[string]func(*Spool, *memVolume) error{
		"commit": func(s *Spool, v *memVolume) error {
			v.fail = failing
			return fill(t, s, "q", 10)
		},
		"done": func(s *Spool, v *memVolume) error {
			if err := fill(t, s, "q", 10); err != nil {
				return err
			}
			l, err := s.Next(t.Context(), "q")
			if err != nil {
				return err
			}
			v.fail = failing
			return l.Done(Receipt{})
		},
		"resolve": func(s *Spool, v *memVolume) error {
			if err := fill(t, s, "q", 10); err != nil {
				return err
			}
			l, err := s.Next(t.Context(), "q")
			if err == nil {
				err = l.Carried(Receipt{})
			}
			if err != nil {
				return err
			}
			v.fail = failing
			return s.Resolve(l.Item().ID, Done(Receipt{}))
		},
		"drop": func(s *Spool, v *memVolume) error {
			if err := fill(t, s, "q", 10); err != nil {
				return err
			}
			v.fail = failing
			return s.Drop(newID(1))
		},
	} {
		v := newMemVolume()
		s, err := open(v, Options{MaxShared: -1})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second key pair makes the first data key one that only items hold
			k, err := seal.NewPrivateKey()
			if err != nil {
				t.Fatal(err)
			}
			s.SealTo(k.Public())
			if v.fail == nil {
				if err := do(s, v); !errors.Is(err, broken) {
					t.Fatalf("%s: %v", name, err)
				}
				continue
			}
			v.fail = nil
			if err := fill(t, s, "q", 1); err != nil {
				t.Fatal(err)
			}
		}
		keys := 0
		for file := range v.entries {
			if strings.HasPrefix(file, epochsDir) {
				keys++
			}
		}
		if keys != 2 {
			t.Errorf("%s: %d data keys are left, want that of what may come back and the newest", name, keys)
		}
	}
}
