package proxy

import (
	"context"
	"net"
)

// Outcome is how a Session ended, in words that may appear in a status page or metric. It never holds patient data.
type Outcome string

// The outcomes shared by every protocol. "done" and "refused" are normal ends; the others deserve a look.
const (
	OutcomeDone        Outcome = "done"        // the protocol ended as it should
	OutcomeRefused     Outcome = "refused"     // we said no, in the protocol's own words
	OutcomeUnreachable Outcome = "unreachable" // the far side could not be reached
	OutcomeAborted     Outcome = "aborted"     // either side broke off
	OutcomeMalformed   Outcome = "malformed"   // the peer did not speak the protocol
	OutcomeTimeout     Outcome = "timeout"     // no progress in time
)

// Result is what a Handler reports about one connection.
type Result struct {
	Outcome Outcome
	// Detail is one sentence for an operator: what was wrong and who must change what. Empty when Outcome is done.
	Detail string
	// Calling and Called are the protocol's own names of the two ends (AE titles, or HL7 application and facility), never a patient's.
	Calling, Called string
	// Items counts objects or messages taken over.
	Items int
}

// Handler serves one connection to its end and closes nothing: the Server that called it does. Serve returns when the protocol has
// ended, the peer is gone or ctx is done; when ctx is done it should end the protocol in order if that takes no longer than a moment.
type Handler interface {
	Serve(ctx context.Context, c net.Conn) Result
}

// HandlerFunc lets a function be a Handler.
type HandlerFunc func(ctx context.Context, c net.Conn) Result

// Serve calls f.
func (f HandlerFunc) Serve(ctx context.Context, c net.Conn) Result { return f(ctx, c) }
