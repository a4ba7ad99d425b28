package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/provisioning/adminapi"
	"github.com/towpath/towpath/proxy/spool"
)

// queueLimitFlags bound the queues of a queued service.
func queueLimitFlags() []cli.Flag {
	return []cli.Flag{
		&cli.Int64Flag{Name: "queue-max-bytes", Usage: "most `BYTES` that each sender's gateway keeps for it; no bound if not given (queued)"},
		&cli.IntFlag{Name: "queue-max-items", Usage: "most `NUMBER` of objects or messages that each sender's gateway keeps for it; no bound if not given (queued)"},
	}
}

// queueOptions reads them; nil if none was given.
func queueOptions(c *cli.Context) *adminapi.QueueOptions {
	if !c.IsSet("queue-max-bytes") && !c.IsSet("queue-max-items") {
		return nil
	}
	return &adminapi.QueueOptions{MaxBytes: c.Int64("queue-max-bytes"), MaxItems: c.Int("queue-max-items")}
}

// queueSize says how much a queue holds, and of how much.
func queueSize(q spool.QueueStats) string {
	text := ui.Bytes(q.Bytes)
	if q.MaxBytes > 0 {
		text = fmt.Sprintf("%s of %s", ui.Bytes(q.Used), ui.Bytes(q.MaxBytes))
	}
	if q.MaxItems > 0 {
		text += fmt.Sprintf(", %d of %d", q.Queued+q.Parked+q.Carried, q.MaxItems)
	}
	if q.Full != "" {
		text += " (full)"
	}
	return text
}
