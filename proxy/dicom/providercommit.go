package dicom

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/towpath/towpath/proxy/dicom/dimse"
	"github.com/towpath/towpath/proxy/dicom/pdu"
	"github.com/towpath/towpath/proxy/dicom/ul"
)

const (
	// tellPoll is how often an idle association is looked at for an outcome to tell.
	tellPoll = 100 * time.Millisecond
	// answerWait is how long a device may take to answer a report, after which it is told on another association.
	answerWait = time.Minute
)

// commits takes requests for storage commitment on one association, and tells outcomes there as long as it is idle.
type commits struct {
	pledges *Pledges
	from    netip.Addr
	context uint8 // the accepted presentation context; 0 for none
	// sent is what the device has been told and not answered yet, with the ID of the message.
	sent    *pledge
	message uint16
	sentAt  time.Time
}

// commitTransferSyntax chooses what reports can be written in.
func commitTransferSyntax(offered []string) string {
	for _, s := range []string{ImplicitLittleEndian, ExplicitLittleEndian} {
		if slices.Contains(offered, s) {
			return s
		}
	}
	return ""
}

// begin finds the context; end gives back what was not answered.
func (c *commits) begin(a *ul.Association) (end func()) {
	if c.pledges == nil {
		return func() {}
	}
	for _, pc := range a.Accepted().Contexts {
		if got, ok := a.Context(pc.ID); ok && got.AbstractSyntax == StorageCommitment {
			c.context = pc.ID
		}
	}
	if c.context == 0 {
		return func() {}
	}
	detach := c.pledges.attach(a.Request().CallingAE)
	return func() {
		if c.sent != nil {
			c.pledges.release(c.sent, "")
		}
		detach()
	}
}

// idle tells outcomes until the device says something, or there is nothing to wait for.
func (c *commits) idle(ctx context.Context, a *ul.Association, patience time.Duration) error {
	if c.context == 0 {
		return nil
	}
	calling, called := a.Request().CallingAE, a.Request().CalledAE
	for began := time.Now(); time.Since(began) < patience && ctx.Err() == nil; {
		if c.sent != nil && time.Since(c.sentAt) > answerWait {
			return nil // Receive waits on, and says so when its own time is over
		}
		if c.sent == nil {
			g, waits := c.pledges.claim(calling, called)
			if !waits {
				return nil
			}
			if g != nil {
				if err := c.tell(ctx, a, g); err != nil {
					return err
				}
			}
		}
		if !a.Silent(tellPoll) {
			return nil
		}
	}
	return nil // if ctx is done, Receive ends the association
}

// tell sends an outcome; its answer comes as a message like any other.
func (c *commits) tell(ctx context.Context, a *ul.Association, g *pledge) error {
	c.sent, c.sentAt = g, time.Now()
	if c.message++; c.message == 0 {
		c.message = 1
	}
	pc, _ := a.Context(c.context)
	event, data := g.event(encodingOf(pc.TransferSyntax))
	set := dimse.EventReportRQ{
		MessageID: c.message, SOPClass: StorageCommitment, SOPInstance: commitmentInstance, Event: event,
	}.Set()
	_, err := a.Send(ctx, c.context, set.Encode(), bytes.NewReader(data))
	return err
}

// answered takes the response to a report, and reports whether it was one.
func (c *commits) answered(set *dimse.Set) bool {
	resp, err := dimse.ParseResponse(set)
	if err != nil || c.sent == nil || resp.To != dimse.NEventReportRQ || resp.MessageID != c.message {
		return false
	}
	g := c.sent
	c.sent = nil
	if resp.Status.Class() == dimse.ClassTransient {
		c.context = 0 // not on this association any more
		c.pledges.release(g, "")
		return true
	}
	c.pledges.told(g)
	return true
}

// request serves an N-ACTION: success is said when the request is safe.
func (p *provider) request(ctx context.Context, pc ul.Context, set *dimse.Set) error {
	status, comment, err := p.pledge(ctx, pc, set)
	if err != nil {
		return err
	}
	if status != dimse.Success {
		p.refuse("a request for storage commitment was refused: " + comment)
	}
	return p.respond(ctx, pc.ID, dimse.Respond(set, status, comment))
}

func (p *provider) pledge(ctx context.Context, pc ul.Context, set *dimse.Set) (dimse.Status, string, error) {
	if !set.HasDataSet() {
		return dimse.InvalidArgument, "the request has no data set", nil
	}
	b, err := readDataSet(ctx, p.a, pc.ID, maxReport)
	if err != nil {
		return 0, "", err
	}
	action, _ := set.US(dimse.TagActionType)
	instance := set.Text(dimse.TagRequestedSOPInstance)
	g, wrong := parsePledge(b, encodingOf(pc.TransferSyntax))
	switch {
	case action != requestCommitment:
		return dimse.NoSuchAction, "the action type is not 1", nil
	case instance != commitmentInstance:
		return dimse.NoSuchInstance, "the instance is not that of storage commitment", nil
	case wrong != nil:
		return dimse.InvalidArgument, wrong.Error(), nil //nolint:nilerr // the device hears of it
	}
	g.Calling, g.Called, g.From, g.Received = p.a.Request().CallingAE, p.a.Request().CalledAE, p.commits.from, time.Now().UTC()
	switch err := p.commits.pledges.take(g); {
	case err == nil:
		return dimse.Success, "", nil
	case errors.Is(err, errOtherObjects):
		return dimse.ProcessingFailure, err.Error(), nil
	case errors.Is(err, errPledgesFull):
		return dimse.ResourceLimitation, err.Error(), nil
	default:
		p.log.Error("a request for storage commitment was refused", "error", err)
		status, comment := storageFailure(err)
		return status, comment, nil
	}
}

// admits reports whether storage commitment is offered to devices: not where the archive is known to offer none.
func (a admission) admits() bool {
	c := a.twin.Capabilities()
	return a.pledges && (c == nil || c.Commits())
}

// commitContext answers a context for storage commitment.
func (a admission) commitContext(offered []string) (string, pdu.ContextResult) {
	if !a.reports && !a.admits() {
		return "", pdu.ContextAbstractSyntax
	}
	if s := commitTransferSyntax(offered); s != "" {
		return s, pdu.ContextAccepted
	}
	return "", pdu.ContextTransferSyntaxes
}

// roles grants an archive the provider's role of storage commitment, in which it reports, and a device the user's, in which it asks (PS3.4
// §J.3.3).
func (a admission) roles(asked []pdu.Role) []pdu.Role {
	for _, r := range asked {
		if r.SOPClass == StorageCommitment && (a.reports || a.admits()) {
			return []pdu.Role{{SOPClass: r.SOPClass, SCU: r.SCU && a.admits(), SCP: r.SCP && a.reports}}
		}
	}
	return nil
}
