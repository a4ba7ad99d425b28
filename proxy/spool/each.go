package spool

import (
	"errors"
	"slices"
)

// Each calls fn with the items that a queue holds when it begins, oldest first, whatever their state, until fn returns an error, which it returns. It
// is List for queues of any length: one Item at a time is in memory. What is delivered meanwhile is left out; an item whose file cannot be read now
// comes without attributes.
func (s *Spool) Each(name string, fn func(Item) error) error {
	for _, id := range s.idsOf(name) {
		it, err := s.Get(id)
		switch {
		case errors.Is(err, ErrUnknown):
			continue
		case errors.Is(err, ErrClosed):
			return err
		case err != nil:
			e, gone := s.look(id)
			if gone != nil {
				continue
			}
			it = e.item(description{Meta: Meta{Queue: name}, Size: e.size, Created: e.created})
		}
		if err := fn(it); err != nil {
			return err
		}
	}
	return nil
}

// idsOf returns the items of a queue, sorted.
func (s *Spool) idsOf(name string) []ID {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queues[name]
	if q == nil {
		return nil
	}
	ids := make([]ID, 0, len(q.entries))
	for id := range q.entries {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}
