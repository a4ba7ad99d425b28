package dicom

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/dicom/pdu"
	"github.com/towpath/towpath/proxy/dicom/ul"
)

// passThrough holds the request until the far side has answered it, then forwards bytes both ways until both sides are done.
// Nothing is encoded again: the request, its answer and all that follows arrive as they were sent.
func (r *Router) passThrough(ctx context.Context, near net.Conn, in *ul.Incoming, route Route, res proxy.Result) proxy.Result {
	hold, cancel := context.WithTimeout(ctx, r.cfg.HoldFor)
	defer cancel()
	unreachable := func(what string) proxy.Result {
		busy := pdu.AssociateRJ{Result: pdu.RejectedTransient, Source: pdu.SourcePresentation, Reason: pdu.PresentationCongestion}
		if err := in.Reject(ctx, busy); err != nil {
			r.cfg.Log.Debug("rejection not sent", "service", route.Service, "error", err)
		}
		res.Outcome = proxy.OutcomeUnreachable
		res.Detail = fmt.Sprintf("%s %s; the sending device was told to try again later. "+
			"Check that the far side is on and that its address and port are right", route.Service, what)
		return res
	}

	far, err := route.Network.DialContext(hold, "tcp", route.Target)
	if err != nil {
		r.cfg.Log.Debug("far side unreachable", "service", route.Service, "target", route.Target, "error", err)
		return unreachable("cannot be reached at " + route.Target)
	}
	defer func() { _ = far.Close() }()

	s := newSplice(near, far, r.cfg.Limits)
	defer s.watch.Stop()
	first := slices.Concat(in.RQ.Raw(), in.Buffered())
	stopHold := context.AfterFunc(hold, func() { _ = far.SetDeadline(time.Unix(1, 0)) })
	if _, err := far.Write(first); err != nil {
		stopHold()
		return unreachable("closed the connection at once at " + route.Target)
	}
	s.up.note(first)
	s.startUp()
	answer, reader, err := firstPDU(far, r.cfg.Limits.PDU)
	if !stopHold() && err == nil {
		err = hold.Err() // the deadline struck between the answer and here; the connection is no longer usable
	}
	if err != nil {
		if s.stopUp(); s.up.ended && ctx.Err() == nil {
			res.Outcome, res.Detail = proxy.OutcomeAborted, "the sending device hung up before the far side had answered"
			return res
		}
		return unreachable(noAnswer(err, route.Target, r.cfg.HoldFor))
	}
	_ = far.SetDeadline(time.Time{}) // a failing conn fails the next read anyway
	if pdu.Type(answer[0]) == pdu.TypeAssociateAC {
		route.Twin.caller(in.RQ.CallingAE)
		s.down.listener = r.cfg.Orders.listen(in.RQ, answer, r.cfg.Limits.PDU)
	}

	s.run(ctx, slices.Concat(answer, reader.Buffered()))
	r.cfg.Log.Debug("pass-through ended", "service", route.Service, "bytes_up", s.up.total, "bytes_down", s.down.total)
	return s.result(ctx, res, answer)
}

// firstPDU reads the answer to the association request, whatever it is, as bytes.
func firstPDU(far net.Conn, lim pdu.Limits) ([]byte, *pdu.Reader, error) {
	r := pdu.NewReader(far, lim)
	h, err := r.Next()
	if err != nil {
		return nil, nil, err
	}
	switch h.Type {
	case pdu.TypeAssociateAC, pdu.TypeAssociateRJ, pdu.TypeAbort:
		b, err := r.Whole()
		return b, r, err
	default:
	}
	return nil, nil, &pdu.Error{Reason: pdu.ReasonUnexpectedPDU, Message: h.Type.String() + " instead of an answer"}
}

func noAnswer(err error, target string, within time.Duration) string {
	if isA[*pdu.Error](err) {
		return fmt.Sprintf("does not answer in DICOM at %s", target)
	}
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Sprintf("did not answer at %s within %v", target, within)
	}
	return fmt.Sprintf("hung up without an answer at %s", target)
}

// result says how the association came to its end, judging by the last PDU of each direction.
func (s *splice) result(ctx context.Context, res proxy.Result, answer []byte) proxy.Result {
	switch rj, err := pdu.DecodeAssociateRJ(answer); {
	case err == nil:
		res.Outcome = proxy.OutcomeRefused
		res.Detail = "the far side rejected the association: " + rj.String()
	case s.released():
		res.Outcome = proxy.OutcomeDone
	case ctx.Err() != nil:
		res.Outcome, res.Detail = proxy.OutcomeAborted, "the association was aborted because the service is stopping"
	case s.up.frame.last == pdu.TypeAbort:
		res.Outcome, res.Detail = proxy.OutcomeAborted, "the sending device aborted the association"
	case s.down.frame.last == pdu.TypeAbort:
		res.Outcome, res.Detail = proxy.OutcomeAborted, "the far side aborted the association"
	case s.silent.Load():
		res.Outcome, res.Detail = proxy.OutcomeTimeout, "both sides were silent for too long"
	default:
		res.Outcome, res.Detail = proxy.OutcomeAborted, "the connection ended without a release"
	}
	return res
}
