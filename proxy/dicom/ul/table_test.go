package ul_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/towpath/towpath/proxy/dicom/ul"
)

// standard is PS3.8 table 9-10 read a second time, event by event: "states:action" for the cells that are not blank.
var standard = map[int]string{
	1:  "1:AE-1",
	2:  "4:AE-2",
	3:  "2:AA-1 3:AA-8 5:AE-3 6-12:AA-8 13:AA-6",
	4:  "2:AA-1 3:AA-8 5:AE-4 6-12:AA-8 13:AA-6",
	5:  "1:AE-5",
	6:  "2:AE-6 3:AA-8 5-12:AA-8 13:AA-7",
	7:  "3:AE-7",
	8:  "3:AE-8",
	9:  "6:DT-1 8:AR-7",
	10: "2:AA-1 3:AA-8 5:AA-8 6:DT-2 7:AR-6 8-12:AA-8 13:AA-6",
	11: "6:AR-1",
	12: "2:AA-1 3:AA-8 5:AA-8 6:AR-2 7:AR-8 8-12:AA-8 13:AA-6",
	13: "2:AA-1 3:AA-8 5:AA-8 6:AA-8 7:AR-3 8-9:AA-8 10:AR-10 11:AR-3 12:AA-8 13:AA-6",
	14: "8:AR-4 9:AR-9 12:AR-4",
	15: "3:AA-1 4:AA-2 5-12:AA-1",
	16: "2:AA-2 3:AA-3 5-12:AA-3 13:AA-2",
	17: "2:AA-5 3-12:AA-4 13:AR-5",
	18: "2:AA-2 13:AA-2",
	19: "2:AA-1 3:AA-8 5-12:AA-8 13:AA-7",
}

// next are the states that PS3.8 tables 9-6 to 9-9 name for each action.
var next = map[string]string{
	"AE-1": "Sta4", "AE-2": "Sta5", "AE-3": "Sta6", "AE-4": "Sta1", "AE-5": "Sta2", "AE-6": "Sta3", "AE-7": "Sta6", "AE-8": "Sta13",
	"DT-1": "Sta6", "DT-2": "Sta6", "AR-1": "Sta7", "AR-2": "Sta8", "AR-3": "Sta1", "AR-4": "Sta13", "AR-5": "Sta1", "AR-6": "Sta7",
	"AR-7": "Sta8", "AR-8": "Sta9", "AR-9": "Sta11", "AR-10": "Sta12",
	"AA-1": "Sta13", "AA-2": "Sta1", "AA-3": "Sta1", "AA-4": "Sta1", "AA-5": "Sta1", "AA-6": "Sta13", "AA-7": "Sta13", "AA-8": "Sta13",
}

func TestTableIsTheStandards(t *testing.T) {
	for event := 0; event <= 20; event++ {
		want := map[int]string{}
		for cell := range strings.FieldsSeq(standard[event]) {
			states, action, _ := strings.Cut(cell, ":")
			from, to, isRange := strings.Cut(states, "-")
			first, last := number(t, from), number(t, from)
			if isRange {
				last = number(t, to)
			}
			for s := first; s <= last; s++ {
				want[s] = action
			}
		}
		// A range may run over Sta4, in which nothing can be received.
		if event != 2 && event != 15 && event != 17 {
			delete(want, 4)
		}
		for state := 0; state <= 14; state++ {
			cell, ok := ul.Step(ul.State(state), ul.Event(event), ul.Requestor)
			switch {
			case ok != (want[state] != ""):
				t.Errorf("event %d in Sta%d: possible is %v and should be %v", event, state, ok, !ok)
			case !ok:
			case cell.Action.String() != want[state]:
				t.Errorf("event %d in Sta%d is %s instead of %s", event, state, cell.Action, want[state])
			case cell.Next.String() != next[want[state]]:
				t.Errorf("event %d in Sta%d leads to %s instead of %s", event, state, cell.Next, next[want[state]])
			}
		}
	}
}

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestReleaseCollisionDependsOnTheRole is the one cell with two results.
func TestReleaseCollisionDependsOnTheRole(t *testing.T) {
	for role, want := range map[ul.Role]ul.State{ul.Requestor: ul.Sta9, ul.Acceptor: ul.Sta10} {
		cell, ok := ul.Step(ul.Sta7, ul.EvtReleaseRQPDU, role)
		if !ok || cell.Action != ul.AR8 || cell.Next != want {
			t.Errorf("role %d: %s, %s, %v", role, cell.Action, cell.Next, ok)
		}
	}
}

// TestEveryWayEnds walks the machine at random from every state: from everywhere Sta1 can be reached, and a goodbye is never
// followed by data.
func TestEveryWayEnds(t *testing.T) {
	for s := ul.Sta1; s <= ul.Sta13; s++ {
		reached := map[ul.State]bool{s: true}
		for queue := []ul.State{s}; len(queue) > 0; queue = queue[1:] {
			for e := ul.EvtRequest; e <= ul.EvtInvalidPDU; e++ {
				cell, ok := ul.Step(queue[0], e, ul.Acceptor)
				if ok && !reached[cell.Next] {
					reached[cell.Next] = true
					queue = append(queue, cell.Next)
				}
			}
		}
		if !reached[ul.Sta1] {
			t.Errorf("%s never ends", s)
		}
	}
	if got := fmt.Sprint(ul.AA8, ul.AE1, ul.AR10, ul.DT2, ul.Action(0)); got != "AA-8 AE-1 AR-10 DT-2 no action" {
		t.Errorf("actions print as %s", got)
	}
}
