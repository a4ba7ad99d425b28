package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/google/renameio/v2"
	"github.com/urfave/cli/v2"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/provisioning/adminapi"
	"github.com/towpath/towpath/provisioning/wire"
)

func coordinatorUnsignedCommand() *cli.Command {
	return &cli.Command{
		Name: "unsigned", Usage: "show, or write to a file, what waits for the network's offline key",
		Description: `Carry the file to where the key is, sign it there with "towpath sign", and give the answers to "towpath coordinator signed". A new box does not
take part before; everything else works as it was until then.`,
		Flags: []cli.Flag{dirFlag(), jsonFlag(), &cli.StringFlag{Name: "out", Usage: "write the requests to `FILE`"}},
		Action: func(c *cli.Context) error {
			if _, err := args(c); err != nil {
				return err
			}
			network, all, err := adminClient(c).Unsigned(c.Context)
			if err != nil {
				return offline(c, err)
			}
			if out := c.String("out"); out != "" {
				return writeRequests(c.App.Writer, out, network, all)
			}
			return show(c, all, func(w io.Writer) error {
				var rows [][]string
				for _, m := range all {
					what := "new: does not take part yet"
					if len(m.LastPayload) > 0 {
						what = "changed: works as it was"
					}
					rows = append(rows, []string{m.Site, m.Node, ui.For(m.Since, time.Now()), what})
				}
				return ui.Table(w, []string{"SITE", "NODE", "WAITS", "WHAT"}, rows)
			})
		},
	}
}

func writeRequests(w io.Writer, file, network string, all []adminapi.UnsignedMember) error {
	if len(all) == 0 {
		fmt.Fprintln(w, "Nothing waits for a signature.")
		return nil
	}
	r := wire.SigningRequest{Format: wire.Format, Network: network, Made: time.Now().UTC()}
	for _, u := range all {
		var i wire.SigningItem
		if err := json.Unmarshal(u.Member, &i.Member); err != nil {
			return fmt.Errorf("decode what the coordinator asks for: %w", err)
		}
		if len(u.LastPayload) > 0 {
			i.Last = &wire.SignedMember{Payload: u.LastPayload, Signature: u.LastSignature}
		}
		r.Items = append(r.Items, i)
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the requests: %w", err)
	}
	if err := renameio.WriteFile(file, append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the requests: %w", err)
	}
	fmt.Fprintf(w, "Requests in %[2]s: %[1]d. Where the network's key is: towpath sign --key KEY %[2]s > answers\n", len(r.Items), file)
	return nil
}

func coordinatorSignedCommand() *cli.Command {
	return &cli.Command{
		Name: "signed", Usage: "take the answers of \"towpath sign\"", ArgsUsage: "FILE", Flags: []cli.Flag{dirFlag(), jsonFlag()},
		Action: func(c *cli.Context) error {
			a, err := args(c, "FILE")
			if err != nil {
				return err
			}
			b, err := readSigning(a[0])
			if err != nil {
				return err
			}
			answer, err := wire.ParseSigningAnswer(b)
			if err != nil {
				return ui.Usagef("give the file that \"towpath sign\" wrote", "%s cannot be used: %w", a[0], err)
			}
			members := make([]adminapi.SignedMember, 0, len(answer.Members))
			for _, m := range answer.Members {
				members = append(members, adminapi.SignedMember(m))
			}
			taken, err := adminClient(c).TakeSigned(c.Context, members)
			if err != nil {
				return offline(c, err)
			}
			return show(c, taken, func(w io.Writer) error {
				fmt.Fprintf(w, "Signatures stored: %d. Nodes that take part from now on: %d.\n", len(taken.Accepted), len(taken.Active))
				for _, n := range taken.Stale {
					fmt.Fprintf(w, "%s is signed already, has changed since, or is gone: its signature is not used. \"towpath coordinator unsigned\" shows what is still asked for.\n", n)
				}
				return nil
			})
		},
	}
}

func coordinatorRestoredCommand() *cli.Command {
	return &cli.Command{
		Name: "restored", Usage: "go on after the database was restored from a backup",
		Description: `Boxes refuse maps that are older than theirs. "towpath plan check" tells when a box has a newer one than the database can know; this raises the
generation above it. What was changed after the backup is lost and has to be done again: do that first.`,
		Flags: []cli.Flag{dirFlag(), jsonFlag()},
		Action: func(c *cli.Context) error {
			if _, err := args(c); err != nil {
				return err
			}
			gen, err := adminClient(c).Restored(c.Context)
			if err != nil {
				return offline(c, err)
			}
			return show(c, adminapi.Restored{Generation: gen}, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "The network goes on at generation %d. Look at \"towpath plan check\" again in a few minutes.\n", gen)
				return err
			})
		},
	}
}

// readSigning reads a file of at most wire.MaxSigning bytes.
func readSigning(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read the file: %w", err)
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, wire.MaxSigning+1))
	if err != nil {
		return nil, fmt.Errorf("read the file: %w", err)
	}
	if len(b) > wire.MaxSigning {
		return nil, ui.Usagef("name another file", "%s has more than %d bytes", name, wire.MaxSigning)
	}
	return b, nil
}
