package dicom

import (
	"strings"
	"testing"
)

// deliveryStandard is the diagram read a second time: "event:next" for what can happen in each state.
var deliveryStandard = map[deliveryState]string{
	stateSynced:    "begin:sending refused:parked restart:synced giveup:parked",
	stateSending:   "taken:delivered notnow:synced refused:parked cut:synced unanswered:in-doubt restart:in-doubt",
	stateInDoubt:   "present:delivered absent:synced silent:in-doubt unaskable:synced giveup:parked restart:in-doubt",
	stateDelivered: "restart:delivered",
	stateParked:    "restart:parked operator:synced",
}

var eventNames = map[string]deliveryEvent{
	"begin": evBegin, "taken": evTaken, "notnow": evNotNow, "refused": evRefused, "cut": evCut, "unanswered": evUnanswered,
	"restart": evRestart, "present": evPresent, "absent": evAbsent, "silent": evSilent, "unaskable": evUnaskable, "giveup": evGiveUp,
	"operator": evOperator,
}

func TestDeliveryIsTheDiagram(t *testing.T) {
	for s := deliveryState(0); s <= stateEnd; s++ {
		want := map[deliveryEvent]string{}
		for cell := range strings.FieldsSeq(deliveryStandard[s]) {
			name, next, _ := strings.Cut(cell, ":")
			if eventNames[name] == 0 {
				t.Fatalf("no event %q", name)
			}
			want[eventNames[name]] = next
		}
		for e := deliveryEvent(0); e <= evEnd; e++ {
			next, ok := stepDelivery(s, e)
			if ok != (want[e] != "") || ok && next.String() != want[e] {
				t.Errorf("event %d in %s leads to %s, %v instead of %q", e, s, next, ok, want[e])
			}
		}
	}
}

// TestDeliveryPromises walks all ways: nothing is delivered without an answer, nothing that may be there is sent again unasked, and
// nothing that is delivered comes back.
func TestDeliveryPromises(t *testing.T) {
	for s := stateSynced; s < stateEnd; s++ {
		for e := evBegin; e < evEnd; e++ {
			next, ok := stepDelivery(s, e)
			if !ok {
				continue
			}
			if next == stateDelivered && s != stateDelivered && e != evTaken && e != evPresent {
				t.Errorf("event %d in %s delivers", e, s)
			}
			if s == stateInDoubt && (next == stateSending || next == stateSynced && e != evAbsent && e != evUnaskable) {
				t.Errorf("event %d sends an object in doubt again", e)
			}
			if s == stateDelivered && next != stateDelivered {
				t.Errorf("event %d undoes a delivery", e)
			}
			if e == evRestart && s == stateSending && next != stateInDoubt {
				t.Error("a restart forgets that an object was being sent")
			}
		}
	}
}
