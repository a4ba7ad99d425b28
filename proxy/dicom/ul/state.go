package ul

import "fmt"

// State is a state of the upper layer (PS3.8 §9.2.1, tables 9-1 to 9-5).
type State uint8

// The states of PS3.8. Sta1 is a value of its own: the zero State is none.
const (
	Sta1  State = iota + 1 // idle
	Sta2                   // transport connection open; awaiting A-ASSOCIATE-RQ
	Sta3                   // awaiting local A-ASSOCIATE response
	Sta4                   // awaiting transport connection to open
	Sta5                   // awaiting A-ASSOCIATE-AC or -RJ
	Sta6                   // association established, ready for data transfer
	Sta7                   // awaiting A-RELEASE-RP
	Sta8                   // awaiting local A-RELEASE response
	Sta9                   // release collision, requestor side: awaiting local A-RELEASE response
	Sta10                  // release collision, acceptor side: awaiting A-RELEASE-RP
	Sta11                  // release collision, requestor side: awaiting A-RELEASE-RP
	Sta12                  // release collision, acceptor side: awaiting local A-RELEASE response
	Sta13                  // awaiting transport connection close
)

// String returns the standard's short name.
func (s State) String() string { return fmt.Sprintf("Sta%d", uint8(s)) }

// Event is what can happen (PS3.8 table 9-10, rows).
type Event uint8

// The events of PS3.8 table 9-10. Names ending in "PDU" arrive from the peer, the others come from the local user or transport.
const (
	EvtRequest      Event = iota + 1 // 1: A-ASSOCIATE request (local user)
	EvtConnected                     // 2: transport connection confirmed
	EvtAcceptPDU                     // 3: A-ASSOCIATE-AC received
	EvtRejectPDU                     // 4: A-ASSOCIATE-RJ received
	EvtIndication                    // 5: transport connection indication
	EvtRequestPDU                    // 6: A-ASSOCIATE-RQ received
	EvtAccept                        // 7: A-ASSOCIATE response, accept (local user)
	EvtReject                        // 8: A-ASSOCIATE response, reject (local user)
	EvtData                          // 9: P-DATA request (local user)
	EvtDataPDU                       // 10: P-DATA-TF received
	EvtRelease                       // 11: A-RELEASE request (local user)
	EvtReleaseRQPDU                  // 12: A-RELEASE-RQ received
	EvtReleaseRPPDU                  // 13: A-RELEASE-RP received
	EvtReleaseReply                  // 14: A-RELEASE response (local user)
	EvtAbort                         // 15: A-ABORT request (local user)
	EvtAbortPDU                      // 16: A-ABORT received
	EvtClosed                        // 17: transport connection closed
	EvtTimeout                       // 18: ARTIM timer expired
	EvtInvalidPDU                    // 19: unrecognized or invalid PDU received
)

// Action is what to do (PS3.8 tables 9-6 to 9-9).
type Action uint8

// The actions of PS3.8, in the order of its tables.
const (
	AE1  Action = iota + 1 // open the transport connection
	AE2                    // send A-ASSOCIATE-RQ
	AE3                    // confirm the association to the user
	AE4                    // report the rejection to the user, close
	AE5                    // answer the transport connection, start ARTIM
	AE6                    // stop ARTIM; hand the request to the user, or send A-ASSOCIATE-RJ and start ARTIM
	AE7                    // send A-ASSOCIATE-AC
	AE8                    // send A-ASSOCIATE-RJ, start ARTIM
	DT1                    // send P-DATA-TF
	DT2                    // hand data to the user
	AR1                    // send A-RELEASE-RQ
	AR2                    // tell the user that the peer wants to release
	AR3                    // confirm the release to the user, close
	AR4                    // send A-RELEASE-RP, start ARTIM
	AR5                    // stop ARTIM
	AR6                    // hand data to the user
	AR7                    // send P-DATA-TF
	AR8                    // tell the user of the release collision
	AR9                    // send A-RELEASE-RP
	AR10                   // confirm the release to the user
	AA1                    // send A-ABORT (from the user), start ARTIM
	AA2                    // stop ARTIM, close
	AA3                    // tell the user of the abort, close
	AA4                    // tell the user that the provider aborted
	AA5                    // stop ARTIM
	AA6                    // ignore the PDU
	AA7                    // send A-ABORT
	AA8                    // send A-ABORT (from the provider), tell the user, start ARTIM
)

// String returns the standard's name, such as "AA-8".
func (a Action) String() string {
	switch {
	case a >= AE1 && a <= AE8:
		return fmt.Sprintf("AE-%d", a-AE1+1)
	case a >= DT1 && a <= DT2:
		return fmt.Sprintf("DT-%d", a-DT1+1)
	case a >= AR1 && a <= AR10:
		return fmt.Sprintf("AR-%d", a-AR1+1)
	case a >= AA1 && a <= AA8:
		return fmt.Sprintf("AA-%d", a-AA1+1)
	}
	return "no action"
}

// Role is which side asked for the association. It matters in one cell only: the release collision.
type Role uint8

// The two sides.
const (
	Requestor Role = iota + 1
	Acceptor
)
