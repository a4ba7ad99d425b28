package reconcile

import "github.com/towpath/towpath/proxy/spool"

// applyLimits bounds the queues that are emptied. One that is emptied no more keeps its bound.
func (r *Runner) applyLimits(want []Delivery) {
	for _, d := range want {
		if err := r.cfg.Queue.Limit(d.Queue, spool.Limits{MaxBytes: d.Limits.MaxBytes, MaxItems: d.Limits.MaxItems}); err != nil {
			r.cfg.Log.Error("the bound of a queue cannot be set", "queue", d.Queue, "error", err)
		}
	}
}
