package gateway

import (
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"github.com/towpath/towpath/gateway/health"
	"github.com/towpath/towpath/gateway/history"
	"github.com/towpath/towpath/gateway/state"
	"github.com/towpath/towpath/proxy/dicom"
	"github.com/towpath/towpath/proxy/spool"
	"github.com/towpath/towpath/proxy/transfer"
)

const codeHistory = "history"

// purposeHistory is what the key of the history is derived for (HKDF, RFC 5869), from a random secret of this box that never leaves it.
const purposeHistory = "towpath history v1"

// tracker remembers what became of DICOM objects.
type tracker struct {
	key     history.Key
	history *history.History
}

func openTracker(opt Options) (*tracker, error) {
	secret, err := opt.Dir.ReceiptsKey()
	if err != nil {
		return nil, fmt.Errorf("start the history: %w", err)
	}
	derived, err := hkdf.Key(sha256.New, secret, nil, purposeHistory, sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("start the history: %w", err)
	}
	key, err := history.NewKey(derived)
	if err != nil {
		return nil, fmt.Errorf("start the history: %w", err)
	}
	h, err := history.Open(opt.Dir.Path(state.HistoryDir), history.Options{Log: opt.Log})
	if err != nil {
		return nil, fmt.Errorf("start the history: %w", err)
	}
	return &tracker{key, h}, nil
}

// keepStep notes a step of a DICOM object. That it could not be noted holds nothing up.
func (g *Gateway) keepStep(c spool.Change) {
	e, ok := g.tracker.event(c, time.Now())
	if !ok {
		return
	}
	if err := g.tracker.history.Append(e); err != nil {
		g.health.Raise(codeHistory, health.Warning, "what becomes of objects is not remembered, so \"towpath trace\" cannot tell: "+err.Error(), time.Now())
		return
	}
	g.health.Clear(codeHistory)
}

// event says a Change without UIDs. False is one of an item that is no DICOM object.
func (t *tracker) event(c spool.Change, now time.Time) (history.Event, bool) {
	step, known := map[spool.Step]history.Step{
		spool.StepTaken: history.Taken, spool.StepCarried: history.Carried, spool.StepDelivered: history.Delivered, spool.StepParked: history.Parked,
		spool.StepQueued: history.Queued, spool.StepDropped: history.Dropped,
	}[c.Step]
	n, err := strconv.ParseUint(string(c.Item.ID), 16, 64)
	a := c.Item.Meta.Attributes
	if !known || err != nil || serviceOf(c.Item.Meta.Queue) == "" || !c.Item.Locked && a[dicom.AttrSOPInstance] == "" {
		return history.Event{}, false
	}
	e := history.Event{
		Step: step, At: now, Queue: c.Item.Meta.Queue, Item: n, Size: c.Item.Size, Attempts: c.Item.Attempts,
		Object: t.key.Object(a[dicom.AttrSOPInstance]), Study: t.key.Study(a[dicom.AttrStudyInstance]),
		Calling: shown(a[dicom.AttrCallingAE]), Association: a[dicom.AttrAssociation], Peer: shown(c.Receipt.Peer), Code: shown(c.Receipt.Code),
	}
	if from, err := netip.ParseAddr(a[dicom.AttrSource]); err == nil {
		e.Source = from
	}
	switch {
	case c.Step == spool.StepTaken:
		e.At, e.Peer = c.Item.Created, shown(a[transfer.AttributeNode])
	case !c.Receipt.At.IsZero():
		e.At = c.Receipt.At
	}
	return e, true
}
