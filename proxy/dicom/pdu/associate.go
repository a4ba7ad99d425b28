package pdu

import "encoding/binary"

// ApplicationContext is the only application context that exists: DICOM itself (PS3.7 §A.2.1).
const ApplicationContext = "1.2.840.10008.3.1.1.1"

// ProtocolVersion is the bit of version 1, the only one (PS3.8 table 9-11).
const ProtocolVersion = 1

// associateFixed is the size of the fixed fields before the items: version (2), reserved (2), called (16), calling (16), reserved
// (32).
const associateFixed = 68

// AssociateRQ asks for an association (PS3.8 §9.3.2).
type AssociateRQ struct {
	ProtocolVersion    uint16
	CalledAE           string
	CallingAE          string
	ApplicationContext string
	Contexts           []ProposedContext
	UserInfo           UserInfo

	raw []byte
}

// ProposedContext is one presentation context offered: an abstract syntax and the ways to encode it (PS3.8 §9.3.2.2).
type ProposedContext struct {
	ID               uint8 // odd
	AbstractSyntax   string
	TransferSyntaxes []string
}

// AssociateAC accepts an association (PS3.8 §9.3.3).
type AssociateAC struct {
	ProtocolVersion uint16
	// CalledAE and CallingAE repeat those of the request. PS3.8 table 9-17 says that they shall not be tested.
	CalledAE, CallingAE string
	ApplicationContext  string
	Contexts            []AcceptedContext
	UserInfo            UserInfo

	raw []byte
}

// AcceptedContext is the answer to one ProposedContext (PS3.8 §9.3.3.2).
type AcceptedContext struct {
	ID     uint8
	Result ContextResult
	// TransferSyntax counts only if Result is ContextAccepted.
	TransferSyntax string
}

// ContextResult says what became of a presentation context (PS3.8 table 9-18).
type ContextResult uint8

// The values of PS3.8 table 9-18.
const (
	ContextAccepted             ContextResult = 0
	ContextUserRejection        ContextResult = 1
	ContextNoReason             ContextResult = 2
	ContextAbstractSyntax       ContextResult = 3
	ContextTransferSyntaxes     ContextResult = 4
	contextResultUpperExclusive ContextResult = 5
)

// String returns the standard's words.
func (r ContextResult) String() string {
	names := [...]string{
		"acceptance", "user rejection", "no reason (provider rejection)",
		"abstract syntax not supported", "transfer syntaxes not supported",
	}
	if r < contextResultUpperExclusive {
		return names[r]
	}
	return "unknown result"
}

// Raw returns the whole PDU as it was received, header included, or nil for a request that was not decoded. It must not be changed.
func (rq *AssociateRQ) Raw() []byte { return rq.raw }

// Raw returns the whole PDU as it was received, header included, or nil for an accept that was not decoded. It must not be changed.
func (ac *AssociateAC) Raw() []byte { return ac.raw }

// DecodeAssociateRQ decodes a whole PDU, header included, which it keeps for Raw. Unknown items are skipped, as PS3.8 §9.3.1 asks.
func DecodeAssociateRQ(b []byte, lim Limits) (*AssociateRQ, error) {
	lim = lim.WithDefaults()
	rest, version, called, calling, err := decodeFixed(b, TypeAssociateRQ, lim)
	if err != nil {
		return nil, err
	}
	rq := &AssociateRQ{ProtocolVersion: version, CalledAE: called, CallingAE: calling, raw: b}
	for len(rest) > 0 {
		var it Item
		if it, rest, err = nextItem(rest); err != nil {
			return nil, err
		}
		switch it.Type {
		case itemApplicationContext:
			rq.ApplicationContext = text(it.Data)
		case itemContextRQ:
			if len(rq.Contexts) == lim.MaxContexts {
				return nil, invalid("more than %d presentation contexts", lim.MaxContexts)
			}
			pc, err := decodeProposed(it.Data, lim)
			if err != nil {
				return nil, err
			}
			for _, other := range rq.Contexts {
				if other.ID == pc.ID {
					return nil, invalid("presentation context %d is offered twice", pc.ID)
				}
			}
			rq.Contexts = append(rq.Contexts, pc)
		case itemUserInformation:
			if rq.UserInfo, err = decodeUserInfo(it.Data, lim); err != nil {
				return nil, err
			}
		}
	}
	if len(rq.Contexts) == 0 {
		return nil, invalid("no presentation context is offered")
	}
	return rq, nil
}

// DecodeAssociateAC decodes a whole PDU, header included, which it keeps for Raw.
func DecodeAssociateAC(b []byte, lim Limits) (*AssociateAC, error) {
	lim = lim.WithDefaults()
	rest, version, called, calling, err := decodeFixed(b, TypeAssociateAC, lim)
	if err != nil {
		return nil, err
	}
	ac := &AssociateAC{ProtocolVersion: version, CalledAE: called, CallingAE: calling, raw: b}
	for len(rest) > 0 {
		var it Item
		if it, rest, err = nextItem(rest); err != nil {
			return nil, err
		}
		switch it.Type {
		case itemApplicationContext:
			ac.ApplicationContext = text(it.Data)
		case itemContextAC:
			if len(ac.Contexts) == lim.MaxContexts {
				return nil, invalid("more than %d presentation contexts", lim.MaxContexts)
			}
			pc, err := decodeAccepted(it.Data)
			if err != nil {
				return nil, err
			}
			ac.Contexts = append(ac.Contexts, pc)
		case itemUserInformation:
			if ac.UserInfo, err = decodeUserInfo(it.Data, lim); err != nil {
				return nil, err
			}
		}
	}
	return ac, nil
}

// decodeFixed checks the header and reads what RQ and AC have in common.
func decodeFixed(b []byte, want Type, lim Limits) (rest []byte, version uint16, called, calling string, err error) {
	if len(b) < HeaderSize+associateFixed {
		return nil, 0, "", "", invalid("%s is only %d bytes long", want, len(b))
	}
	h := DecodeHeader([HeaderSize]byte(b))
	switch {
	case h.Type != want:
		return nil, 0, "", "", invalid("%s where %s should be", h.Type, want)
	case h.Length > lim.MaxAssociate:
		return nil, 0, "", "", invalid("%s of %d bytes; at most %d are taken", want, h.Length, lim.MaxAssociate)
	case int(h.Length) != len(b)-HeaderSize:
		return nil, 0, "", "", invalid("%s claims %d bytes and has %d", want, h.Length, len(b)-HeaderSize)
	}
	body := b[HeaderSize:]
	return body[associateFixed:], binary.BigEndian.Uint16(body), decodeAETitle(body[4:20]), decodeAETitle(body[20:36]), nil
}

func decodeProposed(b []byte, lim Limits) (ProposedContext, error) {
	if len(b) < 4 {
		return ProposedContext{}, invalid("a presentation context is cut off")
	}
	pc := ProposedContext{ID: b[0]}
	if pc.ID%2 == 0 {
		return pc, invalid("presentation context ID %d is not odd", pc.ID)
	}
	rest := b[4:]
	for len(rest) > 0 {
		var it Item
		var err error
		if it, rest, err = nextItem(rest); err != nil {
			return pc, err
		}
		switch it.Type {
		case itemAbstractSyntax:
			pc.AbstractSyntax = text(it.Data)
		case itemTransferSyntax:
			if len(pc.TransferSyntaxes) == lim.MaxTransferSyntaxes {
				return pc, invalid("presentation context %d has more than %d transfer syntaxes", pc.ID, lim.MaxTransferSyntaxes)
			}
			pc.TransferSyntaxes = append(pc.TransferSyntaxes, text(it.Data))
		}
	}
	if pc.AbstractSyntax == "" || len(pc.TransferSyntaxes) == 0 {
		return pc, invalid("presentation context %d lacks an abstract or transfer syntax", pc.ID)
	}
	return pc, nil
}

func decodeAccepted(b []byte) (AcceptedContext, error) {
	if len(b) < 4 {
		return AcceptedContext{}, invalid("a presentation context is cut off")
	}
	pc := AcceptedContext{ID: b[0], Result: ContextResult(b[2])}
	rest := b[4:]
	for len(rest) > 0 {
		var it Item
		var err error
		if it, rest, err = nextItem(rest); err != nil {
			return pc, err
		}
		if it.Type == itemTransferSyntax {
			pc.TransferSyntax = text(it.Data)
		}
	}
	return pc, nil
}

// Encode returns the whole PDU. It is built from the fields, never from Raw.
func (rq *AssociateRQ) Encode() ([]byte, error) {
	e := &encoder{b: Header{Type: TypeAssociateRQ}.Append(nil)}
	e.fixed(rq.ProtocolVersion, rq.CalledAE, rq.CallingAE, rq.ApplicationContext)
	for _, pc := range rq.Contexts {
		e.item(itemContextRQ, func() {
			e.b = append(e.b, pc.ID, 0, 0, 0)
			e.text(itemAbstractSyntax, pc.AbstractSyntax)
			for _, ts := range pc.TransferSyntaxes {
				e.text(itemTransferSyntax, ts)
			}
		})
	}
	e.userInfo(&rq.UserInfo)
	return e.finish()
}

// Encode returns the whole PDU. It is built from the fields, never from Raw.
func (ac *AssociateAC) Encode() ([]byte, error) {
	e := &encoder{b: Header{Type: TypeAssociateAC}.Append(nil)}
	e.fixed(ac.ProtocolVersion, ac.CalledAE, ac.CallingAE, ac.ApplicationContext)
	for _, pc := range ac.Contexts {
		e.item(itemContextAC, func() {
			e.b = append(e.b, pc.ID, 0, byte(pc.Result), 0)
			e.text(itemTransferSyntax, pc.TransferSyntax)
		})
	}
	e.userInfo(&ac.UserInfo)
	return e.finish()
}

func (e *encoder) fixed(version uint16, called, calling, applicationContext string) {
	e.b = binary.BigEndian.AppendUint16(e.b, version)
	e.b = append(e.b, 0, 0)
	e.aeTitle(called)
	e.aeTitle(calling)
	e.b = append(e.b, make([]byte, 32)...)
	e.text(itemApplicationContext, applicationContext)
}
