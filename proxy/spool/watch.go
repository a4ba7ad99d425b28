package spool

// Step is one of the things that happen to an Item.
type Step string

// The steps of an Item's way.
const (
	StepTaken     Step = "taken"     // synced, deliverable
	StepCarried   Step = "carried"   // the far gateway has it
	StepDelivered Step = "delivered" // its receiver has it
	StepParked    Step = "parked"    // refused for good, or held by an operator
	StepQueued    Step = "queued"    // again, after it was parked or carried
	StepDropped   Step = "dropped"   // deleted by an operator, undelivered
)

// Change is a Step of one Item.
type Change struct {
	// Item is as it was before. Attributes are missing while it is Locked.
	Item Item
	Step Step
	// Receipt is what the far end said, where it said something.
	Receipt Receipt
}

// OnChange has fn hear of every step of every Item. It must be quick, and may be called by several goroutines, for one Item not always in the
// order of the steps: Item.Created is when it was taken. A crash may keep the last ones from it.
func (s *Spool) OnChange(fn func(Change)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onChange = fn
}

func (s *Spool) tell(c Change) {
	s.mu.Lock()
	fn := s.onChange
	s.mu.Unlock()
	if fn != nil {
		fn(c)
	}
}

// tellOf tells of a borrowed entry, before its file changes its name or goes.
func (s *Spool) tellOf(e *entry, step Step) {
	s.mu.Lock()
	heard := s.onChange != nil
	s.mu.Unlock()
	if heard {
		s.tell(Change{Item: s.itemOf(e), Step: step})
	}
}

// itemOf describes a borrowed entry as far as it can be read.
func (s *Spool) itemOf(e *entry) Item {
	d, err := s.describe(e)
	if err != nil {
		d = description{Meta: Meta{Queue: e.queue.name}, Size: e.size, Created: e.created, locked: true}
	}
	return e.item(d)
}
