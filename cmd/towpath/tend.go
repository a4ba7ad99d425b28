package main

import (
	"context"
	"log/slog"
	"time"
)

// tendEvery is how often the coordinator does what time demands: ends renumberings, frees what was in quarantine.
const tendEvery = time.Minute

// tend calls do now and at every interval until ctx ends. What goes wrong is logged when it begins, changes or ends, not each time.
func tend(ctx context.Context, every time.Duration, do func(context.Context) error, log *slog.Logger) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	said := ""
	for {
		now := ""
		if err := do(ctx); err != nil {
			now = err.Error()
		}
		switch {
		case ctx.Err() != nil:
			return
		case now == said:
		case now == "":
			log.InfoContext(ctx, "the plan is tended again")
		default:
			log.ErrorContext(ctx, "the plan cannot be tended: old addresses do not end and quarantined ones do not become free", "error", now)
		}
		said = now
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
