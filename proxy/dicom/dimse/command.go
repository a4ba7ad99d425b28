package dimse

import (
	"cmp"
	"encoding/binary"
	"fmt"
)

// Command is the value of the Command Field (0000,0100), PS3.7 §E.1. A response is its request with bit 8000H set.
type Command uint16

// The commands of PS3.7 §E.1.
const (
	CStoreRQ       Command = 0x0001
	CStoreRSP      Command = 0x8001
	CGetRQ         Command = 0x0010
	CFindRQ        Command = 0x0020
	CMoveRQ        Command = 0x0021
	CEchoRQ        Command = 0x0030
	CEchoRSP       Command = 0x8030
	NEventReportRQ Command = 0x0100
	NGetRQ         Command = 0x0110
	NSetRQ         Command = 0x0120
	NActionRQ      Command = 0x0130
	NCreateRQ      Command = 0x0140
	NDeleteRQ      Command = 0x0150
	CCancelRQ      Command = 0x0FFF
)

const responseBit Command = 0x8000

const (
	noDataSet       = 0x0101 // Command Data Set Type: none
	withDataSet     = 0x0001
	priorityMedium  = 0x0000
	maxErrorComment = 64 // LO
)

// IsResponse reports whether c is a response.
func (c Command) IsResponse() bool { return c&responseBit != 0 }

// String returns the standard's name.
func (c Command) String() string {
	name := map[Command]string{
		CStoreRQ: "C-STORE", CGetRQ: "C-GET", CFindRQ: "C-FIND", CMoveRQ: "C-MOVE", CEchoRQ: "C-ECHO",
		NEventReportRQ: "N-EVENT-REPORT", NGetRQ: "N-GET", NSetRQ: "N-SET", NActionRQ: "N-ACTION", NCreateRQ: "N-CREATE",
		NDeleteRQ: "N-DELETE", CCancelRQ: "C-CANCEL",
	}[c&^responseBit]
	switch {
	case name == "":
		return fmt.Sprintf("command %04XH", uint16(c))
	case c.IsResponse():
		return name + "-RSP"
	}
	return name + "-RQ"
}

// EchoRQ asks whether the peer is there (PS3.7 §9.3.5.1).
type EchoRQ struct {
	MessageID uint16
	SOPClass  string
}

// Set returns the command set.
func (m EchoRQ) Set() Set {
	var s Set
	s.SetUI(TagAffectedSOPClass, m.SOPClass)
	s.SetUS(TagCommandField, uint16(CEchoRQ))
	s.SetUS(TagMessageID, m.MessageID)
	s.SetUS(TagDataSetType, noDataSet)
	return s
}

// StoreRQ asks the peer to store the data set that follows (PS3.7 §9.3.1.1). The priority is always medium.
type StoreRQ struct {
	MessageID             uint16
	SOPClass, SOPInstance string
	// MoveOriginatorAE and MoveOriginatorMessage say which C-MOVE caused this; an empty AE title means none.
	MoveOriginatorAE      string
	MoveOriginatorMessage uint16
	// HasDataSet is what the message says; a C-STORE without a data set is wrong.
	HasDataSet bool
}

// Set returns the command set.
func (m StoreRQ) Set() Set {
	var s Set
	s.SetUI(TagAffectedSOPClass, m.SOPClass)
	s.SetUS(TagCommandField, uint16(CStoreRQ))
	s.SetUS(TagMessageID, m.MessageID)
	s.SetUS(TagPriority, priorityMedium)
	s.SetUS(TagDataSetType, noDataSet)
	if m.HasDataSet {
		s.SetUS(TagDataSetType, withDataSet)
	}
	s.SetUI(TagAffectedSOPInstance, m.SOPInstance)
	if m.MoveOriginatorAE != "" {
		s.SetText(TagMoveOriginatorAE, m.MoveOriginatorAE)
		s.SetUS(TagMoveOriginatorMessage, m.MoveOriginatorMessage)
	}
	return s
}

// ParseStoreRQ reads a C-STORE request. Whether its UIDs make sense is for the caller to judge, who also answers.
func ParseStoreRQ(s *Set) StoreRQ {
	origin, _ := s.US(TagMoveOriginatorMessage)
	return StoreRQ{
		MessageID: s.MessageID(), SOPClass: s.Text(TagAffectedSOPClass), SOPInstance: s.Text(TagAffectedSOPInstance),
		MoveOriginatorAE: s.Text(TagMoveOriginatorAE), MoveOriginatorMessage: origin, HasDataSet: s.HasDataSet(),
	}
}

// FindRQ asks for what matches the identifier that follows (PS3.7 §9.3.2.1). The priority is always medium.
type FindRQ struct {
	MessageID uint16
	SOPClass  string
}

// Set returns the command set.
func (m FindRQ) Set() Set {
	var s Set
	s.SetUI(TagAffectedSOPClass, m.SOPClass)
	s.SetUS(TagCommandField, uint16(CFindRQ))
	s.SetUS(TagMessageID, m.MessageID)
	s.SetUS(TagPriority, priorityMedium)
	s.SetUS(TagDataSetType, withDataSet)
	return s
}

// RetrieveRQ asks for objects: by C-GET on the same association (PS3.7 §9.3.3.1), or, when there is a Destination, by C-MOVE on another one
// (§9.3.4.1). The priority is always medium.
type RetrieveRQ struct {
	MessageID uint16
	SOPClass  string
	// Destination is the AE title that the archive sends to.
	Destination string
}

// Set returns the command set.
func (m RetrieveRQ) Set() Set {
	var s Set
	s.SetUI(TagAffectedSOPClass, m.SOPClass)
	command := CGetRQ
	if m.Destination != "" {
		command = CMoveRQ
		s.SetText(TagMoveDestination, m.Destination)
	}
	s.SetUS(TagCommandField, uint16(command))
	s.SetUS(TagMessageID, m.MessageID)
	s.SetUS(TagPriority, priorityMedium)
	s.SetUS(TagDataSetType, withDataSet)
	return s
}

// ActionRQ asks for an action with the information that follows (PS3.7 §10.3.4.1).
type ActionRQ struct {
	MessageID             uint16
	SOPClass, SOPInstance string // requested
	Action                uint16
}

// Set returns the command set.
func (m ActionRQ) Set() Set {
	var s Set
	s.SetUI(TagRequestedSOPClass, m.SOPClass)
	s.SetUS(TagCommandField, uint16(NActionRQ))
	s.SetUS(TagMessageID, m.MessageID)
	s.SetUS(TagDataSetType, withDataSet)
	s.SetUI(TagRequestedSOPInstance, m.SOPInstance)
	s.SetUS(TagActionType, m.Action)
	return s
}

// EventReportRQ tells of an event with the information that follows (PS3.7 §10.3.1.1).
type EventReportRQ struct {
	MessageID             uint16
	SOPClass, SOPInstance string // affected
	Event                 uint16
}

// Set returns the command set.
func (m EventReportRQ) Set() Set {
	var s Set
	s.SetUI(TagAffectedSOPClass, m.SOPClass)
	s.SetUS(TagCommandField, uint16(NEventReportRQ))
	s.SetUS(TagMessageID, m.MessageID)
	s.SetUS(TagDataSetType, withDataSet)
	s.SetUI(TagAffectedSOPInstance, m.SOPInstance)
	s.SetUS(TagEventType, m.Event)
	return s
}

// Response is the answer to any request: C-STORE-RSP (PS3.7 §9.3.1.2), C-ECHO-RSP (§9.3.5.2) and, for commands that we do not know,
// their generic form.
type Response struct {
	// To is the request's command.
	To          Command
	MessageID   uint16
	SOPClass    string
	SOPInstance string
	Status      Status
	// ErrorComment says in at most 64 characters what is wrong; longer ones are cut, and characters outside ASCII become "?".
	ErrorComment string
	// OffendingElements are group and element numbers of attributes in the data set.
	OffendingElements []uint32
}

// Respond returns a Response to the request s that repeats what must be repeated, and for N-services the requested class and instance as the
// affected ones, which PS3.7 §10.1 lets a provider leave out and some peers insist on.
func Respond(s *Set, status Status, comment string) Response {
	return Response{
		To: s.CommandField(), MessageID: s.MessageID(), Status: status, ErrorComment: comment,
		SOPClass:    cmp.Or(s.Text(TagAffectedSOPClass), s.Text(TagRequestedSOPClass)),
		SOPInstance: cmp.Or(s.Text(TagAffectedSOPInstance), s.Text(TagRequestedSOPInstance)),
	}
}

// Set returns the command set.
func (m Response) Set() Set {
	var s Set
	s.SetUI(TagAffectedSOPClass, m.SOPClass)
	s.SetUS(TagCommandField, uint16(m.To|responseBit))
	s.SetUS(TagMessageIDResponded, m.MessageID)
	s.SetUS(TagDataSetType, noDataSet)
	s.SetUS(TagStatus, uint16(m.Status))
	if len(m.OffendingElements) > 0 {
		var v []byte
		for _, tag := range m.OffendingElements {
			v = binary.LittleEndian.AppendUint16(v, uint16(tag>>16))
			v = binary.LittleEndian.AppendUint16(v, uint16(tag))
		}
		s.put(TagOffendingElement, v)
	}
	s.SetText(TagErrorComment, cutComment(m.ErrorComment))
	s.SetUI(TagAffectedSOPInstance, m.SOPInstance)
	return s
}

// WithDataSet returns the command set of a response that a data set follows.
func (m Response) WithDataSet() *Set {
	s := m.Set()
	s.SetUS(TagDataSetType, withDataSet)
	return &s
}

// ParseResponse reads a response. It fails if s is none or has no status.
func ParseResponse(s *Set) (Response, error) {
	c := s.CommandField()
	if !c.IsResponse() {
		return Response{}, fmt.Errorf("%s where a response should be", c)
	}
	status, ok := s.US(TagStatus)
	if !ok {
		return Response{}, fmt.Errorf("%s without a status", c)
	}
	id, ok := s.US(TagMessageIDResponded)
	if !ok {
		return Response{}, fmt.Errorf("%s that does not say which message it answers", c)
	}
	m := Response{
		To: c &^ responseBit, MessageID: id, Status: Status(status), ErrorComment: s.Text(TagErrorComment),
		SOPClass: s.Text(TagAffectedSOPClass), SOPInstance: s.Text(TagAffectedSOPInstance),
	}
	v, _ := s.value(TagOffendingElement)
	for ; len(v) >= 4; v = v[4:] {
		m.OffendingElements = append(m.OffendingElements,
			uint32(binary.LittleEndian.Uint16(v))<<16|uint32(binary.LittleEndian.Uint16(v[2:])))
	}
	return m, nil
}

// cutComment makes s a legal LO value: 64 characters of the default repertoire, no control characters or backslash (PS3.5 §6.2).
func cutComment(s string) string {
	b := make([]byte, 0, maxErrorComment)
	for _, r := range s {
		if len(b) == maxErrorComment {
			break
		}
		if r < ' ' || r > '~' || r == '\\' {
			r = '?'
		}
		b = append(b, byte(r))
	}
	return string(b)
}
