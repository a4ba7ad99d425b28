package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/gateway/localapi"
	"github.com/towpath/towpath/proxy/dicom"
	"github.com/towpath/towpath/proxy/spool"
)

// queuePriorityCommand makes items urgent, or routine again.
func queuePriorityCommand(name, usage string, urgent bool) *cli.Command {
	return &cli.Command{
		Name: name, Usage: usage, ArgsUsage: "[ITEM]",
		Description: `Give an ITEM of "towpath queue list QUEUE", or --study with the Study Instance UID for all its objects that wait here or are parked. What is
urgent goes first, also on the line to another gateway, between two chunks of a long object; what was offered to that gateway already, at most some
hundred objects, goes in its old place. It survives a restart, and works whether the gateway runs or not. What is urgent from the start is a
matter of the service: "towpath service set --urgent-ae".`,
		Flags: []cli.Flag{stateFlag(), keyStoreFlag(), jsonFlag(), &cli.StringFlag{Name: "study", Usage: "all objects of the study with this `UID`"}},
		Action: func(c *cli.Context) error {
			study := typedUID(c.String("study"))
			if study == "" {
				return withItem(c, func(q localapi.Queues, id string) error {
					if err := q.Prioritize(c.Context, id, urgent); err != nil {
						return err
					}
					return sayPriority(c, 1, urgent)
				})
			}
			if c.NArg() > 0 {
				return ui.Usagef("give one of them", "an ITEM and --study exclude each other")
			}
			if !dicom.ValidUID(study) {
				return ui.Usagef("give the Study Instance UID, digits and dots", "what was given with --study is no UID")
			}
			return withQueues(c, func(q localapi.Queues) error { return prioritizeStudy(c, q, study, urgent) })
		},
	}
}

func prioritizeStudy(c *cli.Context, q localapi.Queues, study string, urgent bool) error {
	n, err := q.PrioritizeStudy(c.Context, study, urgent)
	if err != nil {
		return err
	}
	if n == 0 {
		return ui.Hint(errors.New("no object of this study waits here"), "\"towpath trace UID\" tells what became of it; what the far gateway has is made urgent there")
	}
	return sayPriority(c, n, urgent)
}

func sayPriority(c *cli.Context, n int, urgent bool) error {
	return show(c, map[string]int{"items": n}, func(w io.Writer) error {
		return say(w, "%s: %s now.", ui.Count(n, "item"), map[bool]string{true: "urgent", false: "routine"}[urgent])
	})
}

// urgency shows a priority.
func urgency(priority int) string {
	if priority >= spool.Urgent {
		return "urgent"
	}
	return ""
}

// waiting says how many items wait, and how many of them are urgent.
func waiting(s spool.QueueStats) string {
	if s.Urgent == 0 {
		return fmt.Sprint(s.Queued)
	}
	return fmt.Sprintf("%d, %d urgent", s.Queued, s.Urgent)
}
