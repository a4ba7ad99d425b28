package reconcile

import (
	"cmp"
	"context"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/proxy/dicom"
	"github.com/towpath/towpath/proxy/spool"
)

// pledging answers requests for storage commitment about one queue.
type pledging struct {
	pledges *dicom.Pledges
	spec    atomic.Pointer[Delivery]
	cancel  context.CancelFunc
	done    chan struct{}
}

func (p *pledging) stop() {
	p.cancel()
	<-p.done
	_ = p.pledges.Close() // what counts was synced before
}

// inspectable is a queue of which more can be asked than producers and consumers need.
type inspectable interface {
	Dir() string
	List(queue string, limit int) ([]spool.Item, error)
}

// applyPledges opens what is kept of requests for storage commitment, beside the queues. Without that, after trouble of the disk, such
// requests are refused.
func (r *Runner) applyPledges(ctx context.Context, want []Delivery) {
	queue, ok := r.cfg.Queue.(inspectable)
	if !ok {
		return
	}
	specs := map[string]Delivery{}
	for _, d := range want {
		if d.Protocol == wire.DICOM {
			specs[d.Queue] = d
		}
	}
	r.mu.Lock()
	var gone []*pledging
	for name, p := range r.pledges {
		if _, ok := specs[name]; !ok {
			gone = append(gone, p)
			delete(r.pledges, name)
		}
	}
	r.mu.Unlock()
	for _, p := range gone {
		p.stop()
	}
	for name, d := range specs {
		if p := r.pledging(name); p != nil {
			p.spec.Store(&d)
			continue
		}
		p, err := r.startPledging(ctx, queue, d)
		if err != nil {
			r.cfg.Log.Error("requests for storage commitment cannot be taken", "queue", name, "error", err)
			continue
		}
		r.mu.Lock()
		r.pledges[name] = p
		r.mu.Unlock()
	}
}

func (r *Runner) pledging(queue string) *pledging {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pledges[queue]
}

func (r *Runner) startPledging(ctx context.Context, queue inspectable, d Delivery) (*pledging, error) {
	kept, err := dicom.OpenPledges(filepath.Join(queue.Dir(), "books", "commitments", d.Queue), r.cfg.Log)
	if err != nil {
		return nil, err //nolint:wrapcheck // it says what for
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	p := &pledging{pledges: kept, cancel: cancel, done: make(chan struct{})}
	p.spec.Store(&d)
	go func() {
		defer close(p.done)
		kept.Work(ctx, func() dicom.PledgeWork {
			d := p.spec.Load()
			return dicom.PledgeWork{
				Network: r.cfg.OverlayNet, Target: d.Target.String(), CalledAE: d.AETitle, AskingAE: d.DICOM.ProbeAE, Commitments: r.commitments,
				Items:   func(limit int) ([]spool.Item, error) { return queue.List(d.Queue, limit) },
				Devices: r.cfg.LANNet, Address: r.reportAddress(d), Twin: r.cfg.Twins.Of(d.Service),
			}
		})
	}()
	return p, nil
}

// reportAddress is where an operator has said that a device listens, or the port of the Service where it called from.
func (r *Runner) reportAddress(d *Delivery) func(string, netip.Addr) string {
	usual := dicom.ReportAddress(d.DICOM.ReportPort)
	return func(calling string, from netip.Addr) string {
		return cmp.Or(r.cfg.Devices.Report(calling, from), usual(calling, from))
	}
}

// stopPledges ends all.
func (r *Runner) stopPledges() {
	r.mu.Lock()
	all := r.pledges
	r.pledges = map[string]*pledging{}
	r.mu.Unlock()
	for _, p := range all {
		p.stop()
	}
}

// CommitmentCounts are what became of the requests for storage commitment about one queue.
type CommitmentCounts struct {
	Queue string `json:"queue"`
	dicom.PledgeCounts
}

// Commitments returns the counts of all DICOM queues, by name. It may be called at any time.
func (r *Runner) Commitments() []CommitmentCounts {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []CommitmentCounts
	for queue, p := range r.pledges {
		out = append(out, CommitmentCounts{Queue: queue, PledgeCounts: p.pledges.Counts()})
	}
	slices.SortFunc(out, func(a, b CommitmentCounts) int { return strings.Compare(a.Queue, b.Queue) })
	return out
}
