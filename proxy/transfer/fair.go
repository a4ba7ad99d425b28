package transfer

import "slices"

// routineTurn is how many urgent chunks, or items, in a row pass routine ones; then one of these has its turn. What is urgent has nearly all of the
// line, and a flood of it does not stop the rest. Of one priority the order is that of the Outbox.
const routineTurn = 16

// starvedLocked is a routine item of which a block has to be made for its turn; nil if there is none, or one is being made.
func (o *outSession) starvedLocked() *outItem {
	if o.ready.passed < routineTurn || o.ready.bytes > o.ready.urgent {
		return nil
	}
	for _, it := range o.items {
		if it.item.Priority < Urgent && (it.working > 0 || it.opening) {
			return nil
		}
	}
	i := slices.IndexFunc(o.making, func(it *outItem) bool { return it.item.Priority < Urgent && !it.opening })
	if i < 0 {
		return nil
	}
	return o.making[i]
}

// nextOfferLocked is the place in held of what is offered next: the most urgent, but one routine item is always with the receiver, so that it has
// something to send when its turn comes.
func (o *outSession) nextOfferLocked() int {
	last := o.held[len(o.held)-1]
	if o.held[0].item.Priority < Urgent || last.item.Priority >= Urgent {
		return 0
	}
	for _, it := range o.items {
		if it.item.Priority < Urgent {
			return 0
		}
	}
	return slices.IndexFunc(o.held, func(it *outItem) bool { return it.item.Priority < Urgent })
}
