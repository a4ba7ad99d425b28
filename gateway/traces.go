package gateway

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/towpath/towpath/gateway/history"
	"github.com/towpath/towpath/gateway/localapi"
	"github.com/towpath/towpath/proxy/dicom"
	"github.com/towpath/towpath/proxy/spool"
)

// reasonsShown is how many reasons a study tells.
const reasonsShown = 3

// serviceOf is the DICOM Service of a queue; empty for a queue of something else.
func serviceOf(queue string) string {
	for _, prefix := range []string{"dicom.", "in."} {
		if service, ok := strings.CutPrefix(queue, prefix); ok {
			return service
		}
	}
	return ""
}

// inQueues calls fn with each DICOM object in the queues and the state in which a person knows it. Objects whose key is away have no attributes.
func (g *Gateway) inQueues(ctx context.Context, fn func(it spool.Item, state string)) error {
	doubts := g.runner.InDoubt()
	for _, q := range g.opt.Spool.Stats() {
		if serviceOf(q.Queue) == "" {
			continue
		}
		if err := g.opt.Spool.Each(q.Queue, func(it spool.Item) error {
			fn(it, stateOf(it, doubts))
			return context.Cause(ctx)
		}); err != nil {
			return fmt.Errorf("look into the queues: %w", err)
		}
	}
	return nil
}

func stateOf(it spool.Item, doubts map[spool.ID]bool) string {
	switch {
	case it.State == spool.StateParked:
		return localapi.StateParked
	case it.State == spool.StateCarried:
		return localapi.StateCarried
	case doubts[it.ID]:
		return localapi.StateInDoubt
	case it.Leased:
		return localapi.StateSending
	}
	return localapi.StateWaiting
}

// studyKey is a study in a queue.
type studyKey struct {
	queue string
	study history.Hash
}

// Studies implements localapi.Tracer: the sums are remembered, and what is here is counted anew.
func (g *Gateway) Studies(ctx context.Context, service string) ([]localapi.Study, error) {
	return g.studies(ctx, func(s localapi.Study, _ history.Hash) bool { return service == "" || s.Service == service })
}

func (g *Gateway) studies(ctx context.Context, wanted func(localapi.Study, history.Hash) bool) ([]localapi.Study, error) {
	all := map[studyKey]*localapi.Study{}
	for _, s := range g.tracker.history.Studies() {
		all[studyKey{s.Queue, s.Study}] = &localapi.Study{
			Service: serviceOf(s.Queue), Queue: s.Queue, Study: s.Study.String(), Associations: s.Associations, Objects: s.Objects, Bytes: s.Bytes,
			Delivered: s.Delivered, Dropped: s.Dropped, First: s.First, Last: s.Last, Callers: s.Callers,
		}
	}
	err := g.inQueues(ctx, func(it spool.Item, state string) {
		k := studyKey{it.Meta.Queue, g.tracker.key.Study(it.Meta.Attributes[dicom.AttrStudyInstance])}
		if k.study == (history.Hash{}) {
			return
		}
		s := all[k]
		if s == nil { // longer here than is remembered
			s = &localapi.Study{Service: serviceOf(k.queue), Queue: k.queue, Study: k.study.String(), First: it.Created, Last: it.Created}
			all[k] = s
		}
		countIn(s, it, state)
	})
	var out []localapi.Study
	for k, s := range all {
		// What the books have lost of it, or what came before there were any.
		s.Objects = max(s.Objects, s.Waiting+s.Sending+s.InDoubt+s.Carried+s.Parked+s.Delivered+s.Dropped)
		if wanted(*s, k.study) {
			out = append(out, *s)
		}
	}
	slices.SortFunc(out, func(a, b localapi.Study) int {
		return cmp.Or(b.Last.Compare(a.Last), cmp.Compare(a.Queue, b.Queue), cmp.Compare(a.Study, b.Study))
	})
	return out, err
}

// countIn adds one object that is here.
func countIn(s *localapi.Study, it spool.Item, state string) {
	switch state {
	case localapi.StateParked:
		s.Parked++
	case localapi.StateCarried:
		s.Carried++
	case localapi.StateInDoubt:
		s.InDoubt++
	case localapi.StateSending:
		s.Sending++
	default:
		s.Waiting++
	}
	if it.Meta.Priority >= spool.Urgent && state != localapi.StateCarried {
		s.Urgent++
	}
	if it.LastError != "" && len(s.Reasons) < reasonsShown && !slices.Contains(s.Reasons, it.LastError) {
		s.Reasons = append(s.Reasons, it.LastError)
	}
}

// itemKey is an item of a queue; queues of one box never share one, and the history outlives queues.
type itemKey struct {
	queue string
	id    spool.ID
}

// Trace implements localapi.Tracer.
func (g *Gateway) Trace(ctx context.Context, uid string) (localapi.Trace, error) {
	events, damaged, err := g.tracker.history.Find(g.tracker.key.Object(uid))
	if err != nil {
		return localapi.Trace{}, fmt.Errorf("read the history: %w", err)
	}
	items := map[itemKey]*localapi.TracedItem{}
	sites := g.sitesOfNodes()
	for _, e := range events {
		k := itemKey{e.Queue, spool.ID(fmt.Sprintf("%016x", e.Item))}
		if items[k] == nil {
			items[k] = &localapi.TracedItem{Service: serviceOf(e.Queue), Queue: e.Queue, Item: string(k.id), State: localapi.StateGone}
		}
		tellEvent(items[k], e, sites)
	}
	err = g.inQueues(ctx, func(it spool.Item, state string) {
		k := itemKey{it.Meta.Queue, it.ID}
		a := it.Meta.Attributes
		if items[k] == nil && a[dicom.AttrSOPInstance] == uid {
			items[k] = &localapi.TracedItem{Service: serviceOf(k.queue), Queue: k.queue, Item: string(k.id), Taken: it.Created, Size: it.Size}
			items[k].Calling = shown(a[dicom.AttrCallingAE])
		}
		if t := items[k]; t != nil {
			t.State, t.Attempts, t.Reason, t.Next = state, it.Attempts, it.LastError, it.NotBefore
			t.Urgent = it.Meta.Priority >= spool.Urgent
		}
	})
	if err != nil {
		return localapi.Trace{}, err
	}
	t := localapi.Trace{Damaged: damaged}
	for _, x := range items {
		t.Items = append(t.Items, *x)
	}
	slices.SortFunc(t.Items, func(a, b localapi.TracedItem) int {
		return cmp.Or(a.Taken.Compare(b.Taken), cmp.Compare(a.Queue, b.Queue), cmp.Compare(a.Item, b.Item))
	})
	study := g.tracker.key.Study(uid)
	t.Studies, err = g.studies(ctx, func(_ localapi.Study, h history.Hash) bool { return h == study })
	return t, err
}

// tellEvent adds one step. Events of an item may come in another order than that of their times.
func tellEvent(t *localapi.TracedItem, e history.Event, sites map[string]string) {
	if s := e.Study.String(); s != "" {
		t.Study = s
	}
	later := func(at *time.Time) bool {
		if e.At.Before(*at) {
			return false
		}
		*at = e.At
		return true
	}
	switch e.Step {
	case history.Taken:
		t.Taken, t.Size, t.Calling, t.Address, t.From = e.At, e.Size, e.Calling, e.Source, sites[e.Peer]
		if e.Peer != "" && t.From == "" {
			t.From = e.Peer
		}
	case history.Carried:
		if later(&t.Carried) {
			t.To = cmp.Or(sites[e.Peer], e.Peer)
		}
	case history.Delivered:
		if later(&t.Delivered) {
			t.State, t.Receiver, t.Code = localapi.StateDelivered, e.Peer, e.Code
		}
	case history.Parked:
		later(&t.Parked)
	case history.Dropped:
		if later(&t.Dropped) {
			t.State = localapi.StateDropped
		}
	case history.Queued:
	}
	t.Attempts = max(t.Attempts, e.Attempts)
}

// sitesOfNodes tells the Sites of the nodes of the map.
func (g *Gateway) sitesOfNodes() map[string]string {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make(map[string]string, len(g.plan.Peers))
	for _, p := range g.plan.Peers {
		out[p.Node] = p.Site
	}
	return out
}

// shown makes a device's text safe to show.
func shown(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}
