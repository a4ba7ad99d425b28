package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/gateway/localapi"
	"github.com/towpath/towpath/proxy/dicom"
)

func studiesCommand() *cli.Command {
	return &cli.Command{
		Name: "studies", Usage: "show the studies that passed this box, without naming one",
		Description: `A study is shown by a keyed hash of its UID that means nothing elsewhere: two lines with the same one are the same study, and whose it is cannot
be found out from it. The newest 2,000 studies of the last 30 days that came through a queue are there. WAITING, SENDING, CARRIED (the far gateway
has it) and PARKED are what is here now. "towpath trace UID" tells of one study.`,
		Flags: []cli.Flag{
			stateFlag(), jsonFlag(), &cli.StringFlag{Name: "service", Usage: "only those for the service `NAME`"},
			&cli.IntFlag{Name: "limit", Value: 50, Usage: "show `NUMBER` studies at most, the latest first"},
		},
		Action: func(c *cli.Context) error {
			if _, err := args(c); err != nil {
				return err
			}
			if c.Int("limit") < 1 {
				return ui.Usagef("give a number from 1", "--limit %d makes no sense", c.Int("limit"))
			}
			all, err := localClient(c).Studies(c.Context, c.String("service"))
			if err != nil {
				return notRunning(c, err)
			}
			shown := all[:min(len(all), c.Int("limit"))]
			return show(c, shown, func(w io.Writer) error {
				if name := c.String("service"); len(all) == 0 && name != "" {
					return say(w, "No study for a service %q has passed a queue of this box lately. Without --service all are shown.", name)
				}
				if err := printStudies(w, shown, time.Now()); err != nil {
					return err
				}
				if rest := len(all) - len(shown); rest > 0 {
					return say(w, "and %d more: --limit shows them", rest)
				}
				return nil
			})
		},
	}
}

func printStudies(w io.Writer, all []localapi.Study, now time.Time) error {
	if len(all) == 0 {
		return say(w, "No study has passed a queue of this box lately.")
	}
	header := []string{
		"SERVICE", "STUDY", "FIRST", "LAST", "ASSOCIATIONS", "OBJECTS", "SIZE", "WAITING", "SENDING", "IN DOUBT", "CARRIED", "DELIVERED", "PARKED",
	}
	dropped := slices.ContainsFunc(all, func(s localapi.Study) bool { return s.Dropped > 0 })
	if dropped { // which is rare
		header = append(header, "DROPPED")
	}
	var rows [][]string
	for _, s := range all {
		waits := strconv.Itoa(s.Waiting)
		if s.Urgent > 0 {
			waits += fmt.Sprintf(", %d urgent", s.Urgent)
		}
		row := []string{
			s.Service, s.Study, ui.Ago(s.First, now), ui.Ago(s.Last, now), strconv.Itoa(s.Associations), strconv.Itoa(s.Objects), ui.Bytes(s.Bytes),
			waits, strconv.Itoa(s.Sending), strconv.Itoa(s.InDoubt), strconv.Itoa(s.Carried), strconv.Itoa(s.Delivered), strconv.Itoa(s.Parked),
		}
		if dropped {
			row = append(row, strconv.Itoa(s.Dropped))
		}
		rows = append(rows, row)
	}
	return ui.Table(w, header, rows)
}

func traceCommand() *cli.Command {
	return &cli.Command{
		Name: "trace", Usage: "tell what became of one DICOM object or study", ArgsUsage: "UID",
		Description: `Give a SOP Instance UID or a Study Instance UID. The box remembers objects that came through a queue by a keyed hash: the last 50,000 or so, for 30
days at most; what is in a queue still is looked up there. Run it at the clinic for the way from the device to the center, and at the center for
the way to the archive. Exit code 1 means that nothing is known. The UID stays on this box; remember that your shell may keep what you type.`,
		Flags: []cli.Flag{stateFlag(), jsonFlag()},
		Action: func(c *cli.Context) error {
			a, err := args(c, "UID")
			if err != nil {
				return err
			}
			uid := typedUID(a[0])
			if !dicom.ValidUID(uid) {
				return ui.Usagef("give a SOP Instance UID or Study Instance UID, digits and dots", "what was given is no UID")
			}
			t, err := localClient(c).Trace(c.Context, uid)
			switch {
			case err != nil:
				return notRunning(c, err)
			case !t.Known():
				return ui.Hint(errors.New("nothing is known here of an object or study with this UID: it did not come through a queue of this box, or that was too long ago"),
					"check the UID, which must be that of an object or a study and not of a series; look at the other box; ask for the device with \"towpath device list\" and for refusals with \"towpath status\"")
			}
			return show(c, t, func(w io.Writer) error { return printTrace(w, t, time.Now()) })
		},
	}
}

// typedUID takes what surrounds a UID where people copy it from.
func typedUID(s string) string { return strings.Trim(s, " \t\r\n\x00[]\"'") }

func printTrace(w io.Writer, t localapi.Trace, now time.Time) error {
	for _, i := range t.Items {
		fmt.Fprintf(w, "Object for %s, %s, item %s of queue %s\n", i.Service, ui.Bytes(i.Size), i.Item, i.Queue)
		for _, line := range storyOf(i, now) {
			fmt.Fprintln(w, "  "+line)
		}
	}
	for n, s := range t.Studies {
		if n == 0 {
			fmt.Fprintln(w, "Study")
		}
		if err := printStudies(w, []localapi.Study{s}, now); err != nil {
			return err
		}
		if len(s.Callers) > 0 {
			fmt.Fprintln(w, "  from "+strings.Join(s.Callers, ", "))
		}
		for _, why := range s.Reasons {
			fmt.Fprintln(w, "  because: "+why)
		}
	}
	if t.Damaged > 0 {
		fmt.Fprintf(w, "%s of the history cannot be read: something may be missing.\n", ui.Count(t.Damaged, "record"))
	}
	return nil
}

// storyOf tells the way of one object, a sentence a step.
func storyOf(i localapi.TracedItem, now time.Time) []string {
	var out []string
	step := func(at time.Time, format string, a ...any) {
		if !at.IsZero() {
			out = append(out, timeOf(at)+"  "+fmt.Sprintf(format, a...))
		}
	}
	from := ""
	if i.Calling != "" {
		from = " from AE title " + i.Calling
	}
	if i.Address.IsValid() {
		from += " at " + i.Address.String()
	}
	if i.From != "" {
		from += ", handed over by the gateway of " + i.From
	}
	step(i.Taken, "stored here, synced%s", from)
	step(i.Carried, "stored by the gateway of %s, synced", i.To)
	step(i.Delivered, "taken by %s with status %s", i.Receiver, i.Code)
	step(i.Parked, "parked")
	step(i.Dropped, "deleted by an operator, undelivered")
	return append(out, "now: "+nowOf(i, now))
}

// nowOf says where an object is.
func nowOf(i localapi.TracedItem, now time.Time) string {
	text := map[string]string{
		localapi.StateWaiting: "waits here", localapi.StateSending: "is being sent, or next in line", localapi.StateDelivered: "delivered",
		localapi.StateInDoubt: "in doubt: the archive may have it and is being asked", localapi.StateCarried: "with the far gateway, whose receiver has not answered yet",
		localapi.StateParked: "parked: \"towpath queue retry|drop|export " + i.Item + "\" decides", localapi.StateDropped: "deleted",
		localapi.StateGone: "no longer here; how it ended was not recorded: see \"towpath receipts list\"",
	}[i.State]
	if i.Urgent {
		text += ", urgent"
	}
	if i.Attempts > 0 {
		text += fmt.Sprintf(", tried %d times", i.Attempts)
	}
	if i.Next.After(now) {
		text += ", again in " + ui.For(now, i.Next)
	}
	if i.Reason != "" {
		text += ", because: " + i.Reason
	}
	return text
}
