package ul

import (
	"errors"
	"fmt"
	"time"

	"github.com/towpath/towpath/proxy/dicom/pdu"
)

// Errors that callers match.
var (
	// ErrReleased means that the peer has released the association in order, and that we have confirmed it.
	ErrReleased = errors.New("the peer has released the association")
	// ErrLost means that the connection ended without a release or abort.
	ErrLost = errors.New("the connection was closed without a release")
	// ErrEnded means that the association is no longer open, so that the call makes no sense.
	ErrEnded = errors.New("the association has ended")
)

// AbortedError means that the peer sent an A-ABORT.
type AbortedError struct{ Abort pdu.Abort }

func (e *AbortedError) Error() string { return "the peer aborted the association: " + e.Abort.String() }

// RejectedError means that the peer answered the request with an A-ASSOCIATE-RJ.
type RejectedError struct{ RJ pdu.AssociateRJ }

func (e *RejectedError) Error() string { return "the peer rejected the association: " + e.RJ.String() }

// ProtocolError means that the peer broke the protocol and was sent an A-ABORT with the Reason.
type ProtocolError struct {
	Reason  pdu.Reason
	Message string
}

func (e *ProtocolError) Error() string { return "the peer broke the protocol: " + e.Message }

// TimeoutError means that the peer was too slow at something.
type TimeoutError struct {
	// Doing is what was waited for, and After how long.
	Doing string
	After time.Duration
}

func (e *TimeoutError) Error() string { return fmt.Sprintf("timeout after %v %s", e.After, e.Doing) }

// SourceError means that the data set to be sent could not be read; the association has been aborted, since half of it was sent.
type SourceError struct{ Err error }

func (e *SourceError) Error() string { return "reading the data set to send: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *SourceError) Unwrap() error { return e.Err }

// interruptedError carries why a context ended from the connection to the association.
type interruptedError struct{ cause error }

func (e *interruptedError) Error() string { return e.cause.Error() }
