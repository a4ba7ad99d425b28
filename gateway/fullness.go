package gateway

import (
	"fmt"
	"time"

	"github.com/towpath/towpath/gateway/health"
)

const codeFull = "full/"

// observeFull tells of queues that take nothing new.
func (g *Gateway) observeFull(now time.Time) {
	var codes []string
	for _, q := range g.opt.Spool.Stats() {
		if q.Full == "" {
			continue
		}
		limit := fmt.Sprintf("%d of at most %d items", q.Queued+q.Parked+q.Carried, q.MaxItems)
		if q.Full == "bytes" {
			limit = fmt.Sprintf("%d of at most %d bytes", q.Used, q.MaxBytes)
		}
		code := codeFull + q.Queue
		codes = append(codes, code)
		g.health.Raise(code, health.Error, fmt.Sprintf(
			"queue %s holds %s and refuses its senders until some of it is delivered: see why it is not, with \"towpath queue list\"", q.Queue, limit), now)
	}
	g.health.Keep(codeFull, codes)
}
