package reconcile

import (
	"context"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/proxy/dicom"
	"github.com/towpath/towpath/proxy/spool"
)

// delivery is one queue being emptied.
type delivery struct {
	sink   *movingSink
	ledger *dicom.Ledger // nil for HL7, and after trouble of the disk
	cancel context.CancelFunc
	done   chan struct{}
}

func (r *Runner) applyDeliveries(ctx context.Context, all []Delivery) {
	var want, sent []Delivery
	for _, d := range all {
		switch {
		case d.Inbound && !r.receiving.ready():
			// Nobody could be told how these end. They begin when the receiving end is there, which is tried again.
		case r.cfg.Transfer.Spool != nil && d.Gateway.IsValid():
			sent = append(sent, d)
		default:
			want = append(want, d)
		}
	}
	r.applySendings(ctx, sent)
	specs := make(map[string]Delivery, len(want))
	for _, d := range want {
		specs[d.Queue] = d
	}
	for k, run := range r.deliveries {
		if spec, ok := specs[k]; ok && !isClosed(run.done) {
			run.sink.move(spec)
			continue
		}
		run.cancel()
		<-run.done
		r.setDelivery(k, nil)
	}
	for _, d := range want {
		if _, ok := r.deliveries[d.Queue]; !ok {
			r.setDelivery(d.Queue, r.startDelivery(ctx, d))
		}
	}
}

// setDelivery notes what empties a queue; nil is nothing.
func (r *Runner) setDelivery(queue string, run *delivery) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if run == nil {
		delete(r.deliveries, queue)
		return
	}
	r.deliveries[queue] = run
}

// DICOMCounts are what became of the objects of one queue since its delivery began.
type DICOMCounts struct {
	Queue string `json:"queue"`
	dicom.LedgerCounts
}

// DICOM returns the counts of all DICOM queues that are being emptied, by name. It may be called at any time.
func (r *Runner) DICOM() []DICOMCounts {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []DICOMCounts
	for queue, run := range r.deliveries {
		if run.ledger != nil {
			out = append(out, DICOMCounts{Queue: queue, LedgerCounts: run.ledger.Counts()})
		}
	}
	slices.SortFunc(out, func(a, b DICOMCounts) int { return strings.Compare(a.Queue, b.Queue) })
	return out
}

// InDoubt returns the items of all DICOM queues that an archive may have or not. It may be called at any time.
func (r *Runner) InDoubt() map[spool.ID]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[spool.ID]bool{}
	for _, run := range r.deliveries {
		if run.ledger == nil {
			continue
		}
		for _, id := range run.ledger.InDoubt() {
			out[id] = true
		}
	}
	return out
}

func (r *Runner) startDelivery(ctx context.Context, d Delivery) *delivery {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ledger := r.ledger(d)
	open := func(d Delivery) spool.Sink { return r.sink(d, ledger) }
	run := &delivery{sink: newMovingSink(d, open), ledger: ledger, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(run.done)
		defer closeLedger(ledger)
		if err := spool.Deliver(ctx, spool.DeliverConfig{Queue: r.cfg.Queue, Name: d.Queue, Sink: run.sink, Log: r.cfg.Log}); err != nil {
			r.cfg.Log.Error("delivery ended", "queue", d.Queue, "error", err)
		}
	}()
	return run
}

// ledger opens the memory of a DICOM queue beside the queue itself. Without one, after trouble of the disk, objects are delivered all the
// same: only a restart in the middle of one may then send it twice.
func (r *Runner) ledger(d Delivery) *dicom.Ledger {
	at, ok := r.cfg.Queue.(interface{ Dir() string })
	if !ok || d.Protocol == wire.HL7 {
		return nil
	}
	l, err := dicom.OpenLedger(filepath.Join(at.Dir(), "books", d.Queue+".ledger"), dicom.LedgerOptions{})
	if err != nil {
		r.cfg.Log.Error("the delivery ledger cannot be used", "queue", d.Queue, "error", err)
		return nil
	}
	return l
}

func closeLedger(l *dicom.Ledger) {
	if l != nil {
		_ = l.Close() // what counts was synced before
	}
}

func (r *Runner) sink(d Delivery, ledger *dicom.Ledger) spool.Sink {
	if d.Protocol == wire.HL7 {
		return r.hl7Sink(d)
	}
	cfg := dicom.SinkConfig{
		Network: r.cfg.OverlayNet, Target: d.Target.String(), CalledAE: d.AETitle, Ledger: ledger, Log: r.cfg.Log, Twin: r.cfg.Twins.Of(d.Service),
		AskingAE: d.DICOM.ProbeAE, Commitments: r.commitments,
	}
	if !d.Inbound {
		return dicom.NewSink(cfg)
	}
	cfg.Network, cfg.Target = r.reach(d.TLS), d.LAN
	return r.receiving.reporting(dicom.NewSink(cfg))
}

// brokenSink delivers nothing and says why.
type brokenSink struct{ err error }

// Deliver implements spool.Sink.
func (s brokenSink) Deliver(context.Context, spool.Item, io.Reader) (spool.Receipt, error) {
	return spool.Receipt{}, s.err
}

// Idle implements spool.Sink.
func (brokenSink) Idle() {}

// movingSink is a Sink whose other end may move between two items. The item under way is neither cut, which would leave it in doubt, nor
// waited for: it ends on the connection it began on.
type movingSink struct {
	open func(Delivery) spool.Sink
	want atomic.Pointer[Delivery]
	// at and sink belong to whoever delivers.
	at   Delivery
	sink spool.Sink
}

func newMovingSink(d Delivery, open func(Delivery) spool.Sink) *movingSink {
	s := &movingSink{open: open, at: d, sink: open(d)}
	s.want.Store(&d)
	return s
}

// move makes the next item go to d. It may be called at any time.
func (s *movingSink) move(d Delivery) { s.want.Store(&d) }

// Deliver implements spool.Sink.
func (s *movingSink) Deliver(ctx context.Context, it spool.Item, payload io.Reader) (spool.Receipt, error) {
	if want := *s.want.Load(); want != s.at {
		s.sink.Idle()
		s.at, s.sink = want, s.open(want)
	}
	return s.sink.Deliver(ctx, it, payload) //nolint:wrapcheck // it is the Sink's to say
}

// Idle implements spool.Sink.
func (s *movingSink) Idle() { s.sink.Idle() }
