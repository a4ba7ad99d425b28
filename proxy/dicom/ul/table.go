package ul

// Cell is one cell of PS3.8 table 9-10.
type Cell struct {
	Action Action
	// Next is the state afterwards. AE-6 has a second one, Sta13, for a request that the provider itself refuses.
	Next State
}

// Step is PS3.8 table 9-10: what to do and where to go when event e happens in state s. It returns false for the blank cells, which
// mean that the event cannot happen there, or that the local user asked for something at the wrong time. It is a pure function.
func Step(s State, e Event, role Role) (Cell, bool) {
	if s < Sta1 || s > Sta13 || e < EvtRequest || e > EvtInvalidPDU {
		return Cell{}, false
	}
	a := table[e-1][s-1]
	if a == 0 {
		return Cell{}, false
	}
	next := nextState[a]
	if a == AR8 && role == Acceptor {
		next = Sta10
	}
	return Cell{Action: a, Next: next}, true
}

// table is PS3.8 table 9-10 as printed: a row for each event, a column for each state.
var table = [19][13]Action{
	//               Sta1 Sta2 Sta3 Sta4 Sta5 Sta6 Sta7 Sta8 Sta9 Sta10 Sta11 Sta12 Sta13
	/* 1  request */ {AE1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
	/* 2  connect */ {0, 0, 0, AE2, 0, 0, 0, 0, 0, 0, 0, 0, 0},
	/* 3  AC      */ {0, AA1, AA8, 0, AE3, AA8, AA8, AA8, AA8, AA8, AA8, AA8, AA6},
	/* 4  RJ      */ {0, AA1, AA8, 0, AE4, AA8, AA8, AA8, AA8, AA8, AA8, AA8, AA6},
	/* 5  indic.  */ {AE5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
	/* 6  RQ      */ {0, AE6, AA8, 0, AA8, AA8, AA8, AA8, AA8, AA8, AA8, AA8, AA7},
	/* 7  accept  */ {0, 0, AE7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
	/* 8  reject  */ {0, 0, AE8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
	/* 9  data    */ {0, 0, 0, 0, 0, DT1, 0, AR7, 0, 0, 0, 0, 0},
	/* 10 DATA    */ {0, AA1, AA8, 0, AA8, DT2, AR6, AA8, AA8, AA8, AA8, AA8, AA6},
	/* 11 release */ {0, 0, 0, 0, 0, AR1, 0, 0, 0, 0, 0, 0, 0},
	/* 12 REL-RQ  */ {0, AA1, AA8, 0, AA8, AR2, AR8, AA8, AA8, AA8, AA8, AA8, AA6},
	/* 13 REL-RP  */ {0, AA1, AA8, 0, AA8, AA8, AR3, AA8, AA8, AR10, AR3, AA8, AA6},
	/* 14 reply   */ {0, 0, 0, 0, 0, 0, 0, AR4, AR9, 0, 0, AR4, 0},
	/* 15 abort   */ {0, 0, AA1, AA2, AA1, AA1, AA1, AA1, AA1, AA1, AA1, AA1, 0},
	/* 16 ABORT   */ {0, AA2, AA3, 0, AA3, AA3, AA3, AA3, AA3, AA3, AA3, AA3, AA2},
	/* 17 closed  */ {0, AA5, AA4, AA4, AA4, AA4, AA4, AA4, AA4, AA4, AA4, AA4, AR5},
	/* 18 ARTIM   */ {0, AA2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, AA2},
	/* 19 invalid */ {0, AA1, AA8, 0, AA8, AA8, AA8, AA8, AA8, AA8, AA8, AA8, AA7},
}

// nextState is where each action leads, from PS3.8 tables 9-6 to 9-9.
var nextState = [...]State{
	AE1: Sta4, AE2: Sta5, AE3: Sta6, AE4: Sta1, AE5: Sta2, AE6: Sta3, AE7: Sta6, AE8: Sta13,
	DT1: Sta6, DT2: Sta6,
	AR1: Sta7, AR2: Sta8, AR3: Sta1, AR4: Sta13, AR5: Sta1, AR6: Sta7, AR7: Sta8, AR8: Sta9, AR9: Sta11, AR10: Sta12,
	AA1: Sta13, AA2: Sta1, AA3: Sta1, AA4: Sta1, AA5: Sta1, AA6: Sta13, AA7: Sta13, AA8: Sta13,
}
