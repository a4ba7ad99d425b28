package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/gateway/localapi"
	"github.com/towpath/towpath/provisioning/adminapi"
)

func pollCommand() *cli.Command {
	cmd := group("poll", "fetch new studies from a clinic's archive that cannot send them itself", pollSetCommand(), pollEndCommand(), pollListCommand())
	cmd.Description = `The clinic's gateway asks the archive at intervals which studies there are, waits until one has stopped growing, fetches it and
delivers it as if the archive had sent it. "towpath status" on the box shows whether all that was found was fetched.`
	return cmd
}

func pollSetCommand() *cli.Command {
	return &cli.Command{
		Name: "set", Usage: "begin to fetch studies for a service, or change how", ArgsUsage: "SITE SERVICE",
		Description: `SITE must be allowed to use SERVICE, a queued DICOM service. The archive must know the gateway's AE title and let it query and
retrieve. With --move it must also know where the AE title of the service is: at the gateway's LAN address and port.`,
		OnUsageError: usageError,
		Flags: []cli.Flag{
			dirFlag(), jsonFlag(),
			&cli.StringFlag{Name: "archive", Usage: "`HOST:PORT` of the archive on the LAN of SITE", Required: true},
			&cli.StringFlag{Name: "ae-title", Usage: "AE title `AE` of the archive", Required: true},
			&cli.StringFlag{Name: "calling", Usage: "AE title `AE` of the gateway towards it; that of the service if not given"},
			&cli.BoolFlag{Name: "move", Usage: "fetch by C-MOVE instead of C-GET"},
			&cli.StringFlag{Name: "since", Usage: "`DAY` of the oldest studies, as 2026-11-22; today if not given"},
			&cli.DurationFlag{Name: "every", Usage: "`TIME` between two questions; 15m if not given"},
			&cli.DurationFlag{Name: "overlap", Usage: "`TIME` that each looks back behind the end of the last; 72h if not given"},
			&cli.DurationFlag{Name: "settle", Usage: "`TIME` for which a study must not have changed; 10m if not given"},
			&cli.StringFlag{Name: "hours", Usage: "fetch in these `HOURS` only, as 22:00-06:00 in the gateway's time"},
			&cli.StringSliceFlag{Name: "modality", Usage: "fetch studies with this `MODALITY` only, such as CT; may be repeated"},
		},
		Action: func(c *cli.Context) error {
			a, err := args(c, "SITE", "SERVICE")
			if err != nil {
				return err
			}
			since := c.String("since")
			if since == "" {
				since = time.Now().Format(time.DateOnly)
			}
			g, err := adminClient(c).SetPoll(c.Context, a[1], a[0], adminapi.Poll{
				Target: c.String("archive"), CalledAE: c.String("ae-title"), CallingAE: c.String("calling"), Move: c.Bool("move"), Since: since,
				Every: wholeSeconds(c.Duration("every")), Overlap: wholeSeconds(c.Duration("overlap")), Settle: wholeSeconds(c.Duration("settle")),
				Hours: c.String("hours"), Modalities: c.StringSlice("modality"),
			})
			if err != nil {
				return offline(c, err)
			}
			return show(c, g, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "The gateway of %s fetches studies since %s from %s at %s for %s.\n", g.Site, g.Poll.Since, g.Poll.CalledAE, g.Poll.Target, g.Service)
				return err
			})
		},
	}
}

// wholeSeconds rounds up, so that what is not zero does not become it.
func wholeSeconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

func pollEndCommand() *cli.Command {
	return &cli.Command{
		Name: "end", Usage: "fetch no more studies; what is fetched is delivered", ArgsUsage: "SITE SERVICE",
		OnUsageError: usageError,
		Flags:        []cli.Flag{dirFlag()},
		Action: func(c *cli.Context) error {
			a, err := args(c, "SITE", "SERVICE")
			if err != nil {
				return err
			}
			return offline(c, adminClient(c).EndPoll(c.Context, a[1], a[0]))
		},
	}
}

func pollListCommand() *cli.Command {
	return &cli.Command{
		Name: "list", Usage: "archives that are polled",
		OnUsageError: usageError,
		Flags:        []cli.Flag{dirFlag(), jsonFlag()},
		Action: func(c *cli.Context) error {
			if _, err := args(c); err != nil {
				return err
			}
			all, err := adminClient(c).Grants(c.Context)
			if err != nil {
				return offline(c, err)
			}
			polled := []adminapi.Grant{}
			for _, g := range all {
				if g.Poll != nil {
					polled = append(polled, g)
				}
			}
			return show(c, polled, func(w io.Writer) error {
				var rows [][]string
				for _, g := range polled {
					how := "C-GET"
					if g.Poll.Move {
						how = "C-MOVE"
					}
					rows = append(rows, []string{g.Site, g.Service, g.Poll.CalledAE, g.Poll.Target, how, g.Poll.Since, g.Poll.Hours, strings.Join(g.Poll.Modalities, " ")})
				}
				return ui.Table(w, []string{"SITE", "FOR", "ARCHIVE", "AT", "BY", "SINCE", "HOURS", "MODALITIES"}, rows)
			})
		},
	}
}

// printPolls shows how complete the work is.
func printPolls(w io.Writer, s localapi.Status, now time.Time) error {
	if len(s.Polls) == 0 {
		return nil
	}
	fmt.Fprintln(w, "\nArchives that are polled")
	var rows [][]string
	for _, p := range s.Polls {
		state := "complete"
		if !p.Complete() {
			state = fmt.Sprintf("%d studies to come", p.Waiting+p.Failing)
		}
		if p.LastError != "" {
			state = p.LastError
		}
		rows = append(rows, []string{p.Archive, p.Service, ui.Ago(p.Until, now), fmt.Sprintf("%d of %d", p.Whole, p.Whole+p.Waiting+p.Failing), fmt.Sprintf("%d of %d", p.Fetched, p.Found), state})
	}
	return ui.Table(w, []string{"ARCHIVE", "FOR", "ASKED", "STUDIES", "OBJECTS", "STATE"}, rows)
}
