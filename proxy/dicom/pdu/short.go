package pdu

import "fmt"

// shortBody is the body size of RJ, release and abort PDUs.
const shortBody = 4

// AssociateRJ refuses an association (PS3.8 §9.3.4).
type AssociateRJ struct {
	Result RejectResult
	Source RejectSource
	// Reason means something else for each Source.
	Reason uint8
}

// RejectResult says whether it makes sense to try again (PS3.8 table 9-21).
type RejectResult uint8

// The results of PS3.8 table 9-21.
const (
	RejectedPermanent RejectResult = 1
	RejectedTransient RejectResult = 2
)

// RejectSource says who refused (PS3.8 table 9-21).
type RejectSource uint8

// The sources of PS3.8 table 9-21.
const (
	SourceUser         RejectSource = 1 // the application
	SourceACSE         RejectSource = 2 // service provider, association control
	SourcePresentation RejectSource = 3 // service provider, presentation
)

// The reasons of PS3.8 table 9-21, by source.
const (
	UserNoReason           uint8 = 1
	UserApplicationContext uint8 = 2 // application context name not supported
	UserCallingAE          uint8 = 3 // calling AE title not recognized
	UserCalledAE           uint8 = 7 // called AE title not recognized

	ACSENoReason        uint8 = 1
	ACSEProtocolVersion uint8 = 2 // protocol version not supported

	PresentationCongestion uint8 = 1 // temporary congestion
	PresentationLocalLimit uint8 = 2 // local limit exceeded
)

// String gives the numbers as "result/source/reason" and the standard's words.
func (rj AssociateRJ) String() string {
	return fmt.Sprintf("%d/%d/%d (%s, %s)", rj.Result, rj.Source, rj.Reason, rj.Result, rj.reason())
}

// String returns the standard's word.
func (r RejectResult) String() string {
	switch r {
	case RejectedPermanent:
		return "permanent"
	case RejectedTransient:
		return "transient"
	}
	return "unknown result"
}

func (rj AssociateRJ) reason() string {
	switch rj.Source {
	case SourceUser:
		switch rj.Reason {
		case UserNoReason:
			return "no reason given"
		case UserApplicationContext:
			return "application context name not supported"
		case UserCallingAE:
			return "calling AE title not recognized"
		case UserCalledAE:
			return "called AE title not recognized"
		}
	case SourceACSE:
		switch rj.Reason {
		case ACSENoReason:
			return "no reason given"
		case ACSEProtocolVersion:
			return "protocol version not supported"
		}
	case SourcePresentation:
		switch rj.Reason {
		case PresentationCongestion:
			return "temporary congestion"
		case PresentationLocalLimit:
			return "local limit exceeded"
		}
	}
	return "unknown reason"
}

// Encode returns the whole PDU.
func (rj AssociateRJ) Encode() []byte {
	return short(TypeAssociateRJ, 0, byte(rj.Result), byte(rj.Source), rj.Reason)
}

// DecodeAssociateRJ decodes a whole PDU, header included.
func DecodeAssociateRJ(b []byte) (AssociateRJ, error) {
	body, err := decodeShort(b, TypeAssociateRJ)
	if err != nil {
		return AssociateRJ{}, err
	}
	return AssociateRJ{Result: RejectResult(body[1]), Source: RejectSource(body[2]), Reason: body[3]}, nil
}

// AbortSource says who broke the association off (PS3.8 table 9-26).
type AbortSource uint8

// The sources of PS3.8 table 9-26.
const (
	AbortUser     AbortSource = 0 // the application
	AbortProvider AbortSource = 2 // the upper layer
)

// Abort breaks an association off (PS3.8 §9.3.8).
type Abort struct {
	Source AbortSource
	// Reason counts only if Source is AbortProvider.
	Reason Reason
}

// String gives the numbers and the standard's words.
func (a Abort) String() string {
	if a.Source == AbortUser {
		return "0/0 (by the application)"
	}
	return fmt.Sprintf("%d/%d (by the upper layer, %s)", a.Source, a.Reason, a.Reason)
}

// Encode returns the whole PDU.
func (a Abort) Encode() []byte { return short(TypeAbort, 0, 0, byte(a.Source), byte(a.Reason)) }

// DecodeAbort decodes a whole PDU, header included.
func DecodeAbort(b []byte) (Abort, error) {
	body, err := decodeShort(b, TypeAbort)
	if err != nil {
		return Abort{}, err
	}
	return Abort{Source: AbortSource(body[2]), Reason: Reason(body[3])}, nil
}

// EncodeReleaseRQ returns an A-RELEASE-RQ, which has no content (PS3.8 §9.3.6).
func EncodeReleaseRQ() []byte { return short(TypeReleaseRQ, 0, 0, 0, 0) }

// EncodeReleaseRP returns an A-RELEASE-RP, which has no content (PS3.8 §9.3.7).
func EncodeReleaseRP() []byte { return short(TypeReleaseRP, 0, 0, 0, 0) }

func short(t Type, body ...byte) []byte {
	return append(Header{Type: t, Length: shortBody}.Append(make([]byte, 0, HeaderSize+shortBody)), body...)
}

func decodeShort(b []byte, want Type) ([]byte, error) {
	if len(b) != HeaderSize+shortBody {
		return nil, invalid("%s has %d bytes instead of %d", want, len(b), HeaderSize+shortBody)
	}
	if h := DecodeHeader([HeaderSize]byte(b)); h.Type != want || h.Length != shortBody {
		return nil, invalid("%s of %d bytes where %s should be", h.Type, h.Length, want)
	}
	return b[HeaderSize:], nil
}
