package dimse

import "fmt"

// Status is the value of Status (0000,0900).
type Status uint16

// The statuses that this product gives or singles out. C-STORE: PS3.4 table B.2-1; general: PS3.7 annex C.
const (
	Success Status = 0x0000

	ProcessingFailure     Status = 0x0110 // PS3.7 §C.5.7
	DuplicateInstance     Status = 0x0111
	NoSuchInstance        Status = 0x0112
	InvalidArgument       Status = 0x0115
	InvalidInstance       Status = 0x0117 // the SOP instance UID violates the rules for UIDs
	NoSuchSOPClass        Status = 0x0118
	ClassInstanceConflict Status = 0x0119
	SOPClassNotSupported  Status = 0x0122
	NoSuchAction          Status = 0x0123
	NotAuthorized         Status = 0x0124
	DuplicateInvocation   Status = 0x0210
	UnrecognizedOperation Status = 0x0211
	MistypedArgument      Status = 0x0212
	ResourceLimitation    Status = 0x0213

	OutOfResources Status = 0xA700
	DataSetNoMatch Status = 0xA900 // data set does not match SOP class
	CannotProcess  Status = 0xC000 // error: cannot understand

	CoercedElements   Status = 0xB000
	ElementsDiscarded Status = 0xB006
	DataSetWarning    Status = 0xB007 // data set does not match SOP class, stored all the same
	Canceled          Status = 0xFE00
	Pending           Status = 0xFF00
	PendingWarning    Status = 0xFF01
)

// Class says what a sender should make of a Status.
type Class uint8

// The classes. Success and Warning mean that the peer has the object.
const (
	ClassSuccess   Class = iota + 1
	ClassWarning         // taken over, with a remark
	ClassTransient       // refused now; try again later
	ClassPermanent       // refused for good; trying again changes nothing
	ClassPending         // not an end: more responses follow (C-FIND, C-MOVE, C-GET)
	ClassCanceled        // ended because we asked for it
)

// String returns one lower-case word.
func (c Class) String() string {
	switch c {
	case ClassSuccess:
		return "success"
	case ClassWarning:
		return "warning"
	case ClassTransient:
		return "transient"
	case ClassPermanent:
		return "permanent"
	case ClassPending:
		return "pending"
	case ClassCanceled:
		return "canceled"
	}
	return "unknown"
}

// rule is one line of the table of statuses.
type rule struct {
	value, mask Status
	class       Class
	text        string
}

// rules are PS3.4 table B.2-1 (C-STORE) and PS3.7 annex C, most specific first. The split of failures into transient and
// permanent is ours:
//
//   - A7xx and 0213 are about the peer's resources, and 0110 and 0210 about a moment in its life: wait and try again.
//   - 0124 is a permission that somebody can grant: trying again mends itself then, and loses nothing until then.
//   - A9xx, Cxxx, 0122 and the other numbers are about the object or its kind: only a person can change that.
var rules = [...]rule{
	{Success, 0xFFFF, ClassSuccess, "success"},
	{0x0001, 0xFFFF, ClassWarning, "requested optional attributes are not supported"},
	{0x0105, 0xFFFF, ClassPermanent, "no such attribute"},
	{0x0106, 0xFFFF, ClassPermanent, "invalid attribute value"},
	{0x0107, 0xFFFF, ClassWarning, "attribute list error"},
	{ProcessingFailure, 0xFFFF, ClassTransient, "processing failure"},
	{DuplicateInstance, 0xFFFF, ClassPermanent, "duplicate SOP instance"},
	{0x0112, 0xFFFF, ClassPermanent, "no such SOP instance"},
	{0x0116, 0xFFFF, ClassWarning, "attribute value out of range"},
	{InvalidInstance, 0xFFFF, ClassPermanent, "invalid SOP instance UID"},
	{NoSuchSOPClass, 0xFFFF, ClassPermanent, "no such SOP class"},
	{ClassInstanceConflict, 0xFFFF, ClassPermanent, "SOP class and instance do not belong together"},
	{0x0120, 0xFFFF, ClassPermanent, "missing attribute"},
	{0x0121, 0xFFFF, ClassPermanent, "missing attribute value"},
	{SOPClassNotSupported, 0xFFFF, ClassPermanent, "SOP class not supported"},
	{NotAuthorized, 0xFFFF, ClassTransient, "not authorized"},
	{DuplicateInvocation, 0xFFFF, ClassTransient, "duplicate invocation"},
	{UnrecognizedOperation, 0xFFFF, ClassPermanent, "unrecognized operation"},
	{MistypedArgument, 0xFFFF, ClassPermanent, "mistyped argument"},
	{ResourceLimitation, 0xFFFF, ClassTransient, "resource limitation"},
	{0xA700, 0xFF00, ClassTransient, "out of resources"},
	{0xA900, 0xFF00, ClassPermanent, "data set does not match SOP class"},
	{CoercedElements, 0xFFFF, ClassWarning, "some data elements were changed"},
	{ElementsDiscarded, 0xFFFF, ClassWarning, "some data elements were discarded"},
	{DataSetWarning, 0xFFFF, ClassWarning, "data set does not match SOP class, stored all the same"},
	{0xB000, 0xF000, ClassWarning, "warning"},
	{0xC000, 0xF000, ClassPermanent, "cannot understand"},
	{Canceled, 0xFFFF, ClassCanceled, "canceled"},
	{Pending, 0xFFFE, ClassPending, "pending"},
	{0xA000, 0xF000, ClassPermanent, "failure"},
}

func (s Status) rule() rule {
	for _, r := range rules {
		if s&r.mask == r.value {
			return r
		}
	}
	return rule{class: ClassPermanent, text: "unknown failure"}
}

// Class returns the class of s. A value in no table is a permanent failure: a person shall look at it.
func (s Status) Class() Class { return s.rule().class }

// Code returns s as four hexadecimal digits, as receipts and logs name it.
func (s Status) Code() string { return fmt.Sprintf("%04X", uint16(s)) }

// String returns the digits and the standard's words.
func (s Status) String() string { return s.Code() + " (" + s.rule().text + ")" }
