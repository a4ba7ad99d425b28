package dicom

// deliveryState is where one object of a queue stands on its way to the archive.
//
//	          begin            taken
//	synced ----------> sending --------------------> delivered
//	  ^ ^                | | |                           ^
//	  | | cut, refused   | | | refused for good          |
//	  | | for now        | | +-----------> parked        |
//	  | +----------------+ |                ^ |          |
//	  |                    | unanswered,    | | operator |
//	  |                    | restart   give | | (retry)  |
//	  |                    v           up   | v          |
//	  |                 in doubt -----------+ synced     |
//	  |  absent,         |  | |                          |
//	  +-- unaskable -----+  | +--- present --------------+
//	                        +----- silent: stays
//
// In doubt means that the archive may have the whole object and has not said so: only asking it can tell (PS3.7 §A.4 has no
// recovery across associations).
type deliveryState uint8

const (
	stateSynced    deliveryState = iota + 1 // safe here, not there
	stateSending                            // bytes may be on their way
	stateInDoubt                            // the last byte may have arrived; no answer has
	stateDelivered                          // the archive has said that it has it
	stateParked                             // an operator decides
	stateEnd
)

// String returns the word of the design.
func (s deliveryState) String() string {
	names := [...]string{"none", "synced", "sending", "in-doubt", "delivered", "parked"}
	if int(s) < len(names) {
		return names[s]
	}
	return "unknown"
}

// deliveryEvent is what can happen to an object.
type deliveryEvent uint8

const (
	evBegin      deliveryEvent = iota + 1 // the first byte is about to go
	evTaken                               // answered with success or a warning
	evNotNow                              // answered with a status that can pass
	evRefused                             // answered with a status that stays, or the context was not accepted
	evCut                                 // the association broke before the last byte
	evUnanswered                          // it broke after the last byte and before the answer
	evRestart                             // our process has died
	evPresent                             // asked: the archive has it
	evAbsent                              // asked: it has not
	evSilent                              // asked: no answer for now
	evUnaskable                           // the archive cannot be asked; the configuration says to send again
	evGiveUp                              // patience has ended, or the configuration says to let a person decide
	evOperator                            // a person wants it tried again
	evEnd
)

// stepDelivery is the state machine: a pure function. It returns false for what cannot happen.
func stepDelivery(s deliveryState, e deliveryEvent) (deliveryState, bool) {
	if s == 0 || s >= stateEnd || e == 0 || e >= evEnd {
		return s, false
	}
	next := deliveries[s][e]
	return next, next != 0
}

var deliveries = [stateEnd][evEnd]deliveryState{
	stateSynced: {
		evBegin: stateSending, evRefused: stateParked, evRestart: stateSynced, evGiveUp: stateParked,
	},
	stateSending: {
		evTaken: stateDelivered, evNotNow: stateSynced, evRefused: stateParked, evCut: stateSynced, evUnanswered: stateInDoubt,
		evRestart: stateInDoubt,
	},
	stateInDoubt: {
		evPresent: stateDelivered, evAbsent: stateSynced, evSilent: stateInDoubt, evUnaskable: stateSynced, evGiveUp: stateParked,
		evRestart: stateInDoubt,
	},
	stateDelivered: {evRestart: stateDelivered},
	stateParked:    {evRestart: stateParked, evOperator: stateSynced},
}
