package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/google/renameio/v2"
	"github.com/urfave/cli/v2"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/gateway"
	"github.com/towpath/towpath/gateway/localapi"
	"github.com/towpath/towpath/gateway/reconcile"
	"github.com/towpath/towpath/gateway/state"
	"github.com/towpath/towpath/proxy/dicom"
	"github.com/towpath/towpath/proxy/spool"
)

func queueCommand() *cli.Command {
	return group("queue", "what waits on this box, and what to do with what was refused",
		queueListCommand(), queueShowCommand(), queueRetryCommand(),
		&cli.Command{
			Name: "hold", Usage: "keep one item from being delivered, until it is retried", ArgsUsage: "ITEM", Flags: []cli.Flag{stateFlag(), keyStoreFlag()},
			Action: func(c *cli.Context) error {
				return withItem(c, func(q localapi.Queues, id string) error { return q.Hold(c.Context, id) })
			},
		},
		queuePriorityCommand("urgent", "let one item, or a study, pass others", true), queuePriorityCommand("normal", "take that back", false),
		queueDropCommand(), queueExportCommand())
}

func queueListCommand() *cli.Command {
	return &cli.Command{
		Name: "list", Usage: "list the queues, or what is in one", ArgsUsage: "[QUEUE]",
		Description: `Without QUEUE it counts; with it, it lists what waits there, oldest first. "parked" is what was refused for good or put on hold: it stays
until somebody decides. "carried" is what the far gateway has, safe on its disk, and whose receiver has not answered yet: it stays here until
it has. Nothing that is shown names a patient. It works whether the gateway runs or not.`,
		Flags: []cli.Flag{stateFlag(), keyStoreFlag(), jsonFlag(), &cli.IntFlag{Name: "limit", Value: 50, Usage: "list `NUMBER` items at most"}},
		Action: func(c *cli.Context) error {
			if c.NArg() > 1 {
				return ui.Usagef("name one queue", "%q is one argument too many", c.Args().Get(1))
			}
			if n := c.Int("limit"); n < 1 || n > localapi.MaxItems {
				return ui.Usagef(fmt.Sprintf("between 1 and %d", localapi.MaxItems), "--limit %d makes no sense", n)
			}
			return withQueues(c, func(q localapi.Queues) error {
				if c.NArg() == 0 {
					return listQueues(c, q)
				}
				return listItems(c, q, c.Args().First())
			})
		},
	}
}

func listQueues(c *cli.Context, q localapi.Queues) error {
	all, err := q.Stats(c.Context)
	if err != nil {
		return err
	}
	return show(c, all, func(w io.Writer) error {
		var rows [][]string
		for _, s := range all {
			because := s.LastError
			if s.Parked > 0 && s.ParkedError != "" {
				because = s.ParkedError
			}
			rows = append(rows, []string{
				s.Queue, waiting(s), strconv.Itoa(s.Carried), strconv.Itoa(s.Parked), queueSize(s), ui.Ago(s.OldestCreated, time.Now()), because,
			})
		}
		if len(rows) == 0 {
			fmt.Fprintln(w, "Nothing waits.")
			return nil
		}
		return ui.Table(w, []string{"QUEUE", "WAITING", "CARRIED", "PARKED", "SIZE", "OLDEST", "BECAUSE"}, rows)
	})
}

func listItems(c *cli.Context, q localapi.Queues, name string) error {
	stats, err := q.Stats(c.Context)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(stats, func(s spool.QueueStats) bool { return s.Queue == name })
	if i < 0 {
		return ui.Hint(fmt.Errorf("there is no queue %q, or nothing was ever in it", name), "\"towpath queue list\" names those there are")
	}
	items, err := q.Items(c.Context, name, c.Int("limit"))
	if err != nil {
		return err
	}
	return show(c, items, func(w io.Writer) error {
		now := time.Now()
		var rows [][]string
		for _, i := range items {
			rows = append(rows, []string{i.ID, i.State, ui.Bytes(i.Size), ui.Ago(i.Created, now), urgency(i.Priority), strconv.Itoa(i.Attempts), dueOf(i, now), i.LastError})
		}
		if err := ui.Table(w, []string{"ITEM", "STATE", "SIZE", "TAKEN", "PRIORITY", "TRIED", "NEXT", "BECAUSE"}, rows); err != nil {
			return err
		}
		if rest := stats[i].Queued + stats[i].Parked + stats[i].Carried - len(items); rest > 0 {
			fmt.Fprintf(w, "and %d more: --limit shows them\n", rest)
		}
		return nil
	})
}

// dueOf says when an item is tried next.
func dueOf(i localapi.QueueItem, now time.Time) string {
	switch {
	case i.State == string(spool.StateParked):
		return "never by itself"
	case i.State == string(spool.StateCarried):
		return "with the far gateway"
	case i.NotBefore.After(now):
		return "in " + ui.For(now, i.NotBefore)
	}
	return "now"
}

func queueShowCommand() *cli.Command {
	return &cli.Command{
		Name: "show", Usage: "show one item", ArgsUsage: "ITEM",
		Description: `With --identifiers also what tells it apart for its receiver, such as the SOP Instance UID or the message control ID. These may lead to a
patient: keep them out of tickets and mails.`,
		Flags: []cli.Flag{stateFlag(), keyStoreFlag(), jsonFlag(), &cli.BoolFlag{Name: "identifiers", Usage: "show what may lead to a patient"}},
		Action: func(c *cli.Context) error {
			return withItem(c, func(q localapi.Queues, id string) error {
				i, err := q.Item(c.Context, id)
				if err != nil {
					return err
				}
				if !c.Bool("identifiers") {
					i.Attributes = nil
				}
				return show(c, i, func(w io.Writer) error { return printItem(w, i) })
			})
		},
	}
}

func printItem(w io.Writer, i localapi.QueueItem) error {
	rows := [][]string{
		{"item", i.ID},
		{"queue", i.Queue},
		{"state", i.State},
		{"priority", urgency(i.Priority)},
		{"size", fmt.Sprintf("%d bytes", i.Size)},
		{"SHA-256", sumOf(i)},
		{"taken", timeOf(i.Created)},
		{"tried", strconv.Itoa(i.Attempts)},
		{"next", dueOf(i, time.Now())},
		{"because", i.LastError},
	}
	names := make([]string, 0, len(i.Attributes))
	for k := range i.Attributes {
		names = append(names, k)
	}
	slices.Sort(names)
	for _, k := range names {
		rows = append(rows, []string{k, strconv.Quote(i.Attributes[k])})
	}
	return ui.Table(w, []string{"WHAT", ""}, rows)
}

func queueRetryCommand() *cli.Command {
	return &cli.Command{
		Name: "retry", Usage: "try again now what was parked or waits", ArgsUsage: "[ITEM]",
		Description: `Do it when the reason is gone: a parked item that is refused again is parked again. A carried ITEM is sent again, which --queue
and --all never do: the far gateway knows what it has, so do it only when that was lost.`,
		Flags: []cli.Flag{
			stateFlag(), keyStoreFlag(), jsonFlag(), &cli.StringFlag{Name: "queue", Usage: "all of the queue `NAME`"}, &cli.BoolFlag{Name: "all", Usage: "all of all queues"},
		},
		Action: func(c *cli.Context) error {
			name, all := c.String("queue"), c.Bool("all")
			if (name != "") == all || c.NArg() > 0 {
				if name != "" || all {
					return ui.Usagef("give one of them", "an ITEM, --queue and --all exclude each other")
				}
				return withItem(c, func(q localapi.Queues, id string) error { return q.Retry(c.Context, id) })
			}
			return withQueues(c, func(q localapi.Queues) error { return retryAll(c, q, name) })
		},
	}
}

// retryAll retries one queue, or all if no name is given.
func retryAll(c *cli.Context, q localapi.Queues, name string) error {
	names := []string{name}
	if name == "" {
		names = nil
		stats, err := q.Stats(c.Context)
		if err != nil {
			return err
		}
		for _, s := range stats {
			names = append(names, s.Queue)
		}
	}
	total := 0
	for _, n := range names {
		touched, err := q.RetryAll(c.Context, n)
		if err != nil {
			return err
		}
		total += touched
	}
	return show(c, map[string]int{"retried": total}, func(w io.Writer) error {
		fmt.Fprintf(w, "%s: tried again now.\n", ui.Count(total, "item"))
		return nil
	})
}

func queueDropCommand() *cli.Command {
	return &cli.Command{
		Name: "drop", Usage: "delete one item for good, undelivered", ArgsUsage: "ITEM",
		Description: `The sender was told that the item is safe, so this is the one command that loses something. Export it first. An HL7 message that its
sender repeats unchanged later is answered as one that is known, and not delivered: send the exported file with "towpath hl7 send" instead.`,
		Flags: []cli.Flag{stateFlag(), keyStoreFlag(), &cli.BoolFlag{Name: "yes", Usage: "do not ask"}},
		Action: func(c *cli.Context) error {
			return withItem(c, func(q localapi.Queues, id string) error {
				i, err := q.Item(c.Context, id)
				if err != nil {
					return err
				}
				question := fmt.Sprintf("Delete %s of queue %s, taken %s and never delivered?", ui.Bytes(i.Size), i.Queue, ui.Ago(i.Created, time.Now()))
				if err := confirm(c, question); err != nil {
					return err
				}
				return q.Drop(c.Context, id)
			})
		},
	}
}

func queueExportCommand() *cli.Command {
	return &cli.Command{
		Name: "export", Usage: "write one item to a file, and keep it in the queue", ArgsUsage: "ITEM",
		Description: `A DICOM object becomes a DICOM file (PS3.10), an HL7 message is written as it came. Both hold patient data: the file is readable by you alone.`,
		Flags:       []cli.Flag{stateFlag(), keyStoreFlag(), &cli.StringFlag{Name: "out", Required: true, Usage: "write to `FILE`, which must not exist; \"-\" is standard output"}},
		Action: func(c *cli.Context) error {
			return withItem(c, func(q localapi.Queues, id string) error { return exportItem(c, q, id) })
		},
	}
}

func exportItem(c *cli.Context, q localapi.Queues, id string) error {
	i, err := q.Item(c.Context, id)
	if err != nil {
		return err
	}
	p, err := q.Payload(c.Context, id)
	if err != nil {
		return err
	}
	defer func() { _ = p.Close() }()
	name := c.String("out")
	if name == "-" {
		return copyItem(c.App.Writer, i, p)
	}
	if _, err := os.Lstat(name); err == nil {
		return ui.Usagef("choose another name", "%s is there already", name)
	}
	f, err := renameio.NewPendingFile(name, renameio.WithStaticPermissions(0o600))
	if err != nil {
		return fmt.Errorf("export the item: %w", err)
	}
	defer func() { _ = f.Cleanup() }()
	if err := copyItem(f, i, p); err != nil {
		return err
	}
	if err := f.CloseAtomicallyReplace(); err != nil {
		return fmt.Errorf("export the item: %w", err)
	}
	return nil
}

// copyItem writes a payload, for a DICOM object after the head of a file.
func copyItem(w io.Writer, i localapi.QueueItem, payload io.Reader) error {
	if syntax := i.Attributes[dicom.AttrTransferSyntax]; syntax != "" {
		head := dicom.Part10Meta{
			TransferSyntax: syntax, SOPClass: i.Attributes[dicom.AttrSOPClass], SOPInstance: i.Attributes[dicom.AttrSOPInstance],
			SourceAE: i.Attributes[dicom.AttrCallingAE],
		}
		if _, err := w.Write(head.AppendPart10(nil)); err != nil {
			return fmt.Errorf("export the item: %w", err)
		}
	}
	if _, err := io.Copy(w, payload); err != nil {
		return fmt.Errorf("export the item: %w", err)
	}
	return nil
}

// withItem runs do with the item that the only argument names.
func withItem(c *cli.Context, do func(q localapi.Queues, id string) error) error {
	a, err := args(c, "ITEM")
	if err != nil {
		return err
	}
	return withQueues(c, func(q localapi.Queues) error { return do(q, a[0]) })
}

// withQueues runs do with the queues of a box: through the gateway if it runs, else on its directory.
func withQueues(c *cli.Context, do func(localapi.Queues) error) error {
	client := localClient(c)
	_, err := client.Stats(c.Context)
	switch {
	case err == nil:
		return explainQueue(do(client))
	case !errors.Is(err, localapi.ErrNotRunning):
		return notRunning(c, err)
	}
	if _, err := os.Stat(c.String("state")); err != nil {
		return notRunning(c, localapi.ErrNotRunning)
	}
	dir, err := openBox(c)
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	s, err := openQueue(dir)
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	if _, err := gateway.UnlockQueue(dir, s); err != nil {
		return explainKeyStore(err)
	}
	return explainQueue(do(localapi.QueuesOf(s)))
}

// openQueue opens the queue of a stopped box, if it has one.
func openQueue(dir *state.Dir) (*spool.Spool, error) {
	path := dir.Path(state.SpoolDir)
	if _, err := os.Stat(path); err != nil {
		return nil, ui.Hint(errors.New("this box has no queue"), "name its state directory with --state")
	}
	s, err := spool.Open(path, spool.Options{MinFreeBytes: -1, Ordered: reconcile.Ordered, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, fmt.Errorf("open the queue: %w", err)
	}
	return s, nil
}

func explainQueue(err error) error {
	switch {
	case errors.Is(err, spool.ErrUnknown):
		return ui.Hint(err, "it may be delivered by now, or is not in the state that this needs: \"towpath queue list QUEUE\" shows what there is")
	case errors.Is(err, spool.ErrNoKey):
		return ui.Hint(err, "the coordinator keeps the key and gives it to the running gateway: see \"towpath status\"")
	case errors.Is(err, spool.ErrLeased):
		return ui.Hint(err, "try again in a few seconds")
	}
	return err
}
