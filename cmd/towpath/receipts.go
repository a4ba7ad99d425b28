package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"strconv"

	"github.com/google/renameio/v2"
	"github.com/urfave/cli/v2"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/gateway/localapi"
	"github.com/towpath/towpath/gateway/receipts"
	"github.com/towpath/towpath/gateway/state"
	"github.com/towpath/towpath/proxy/dicom"
)

func receiptsCommand() *cli.Command {
	return group("receipts", "what was delivered from this box, and how to show it",
		&cli.Command{
			Name: "list", Usage: "list the newest receipts",
			Description: `A receipt says when an item was taken, when the far end had it and what that answered. It names no patient. It works whether the gateway
runs or not.`,
			Flags: []cli.Flag{
				stateFlag(), keyStoreFlag(), jsonFlag(), &cli.StringFlag{Name: "queue", Usage: "only those of the queue `NAME`"},
				&cli.IntFlag{Name: "limit", Value: 50, Usage: "list `NUMBER` receipts at most"},
			},
			Action: func(c *cli.Context) error {
				if _, err := args(c); err != nil {
					return err
				}
				return listReceipts(c)
			},
		},
		&cli.Command{
			Name: "verify", Usage: "check that no receipt was changed or removed, and that objects have one", ArgsUsage: "[FILE...]",
			Description: `Walks the chain of all receipts. A FILE is a DICOM object or an HL7 message: it has a receipt when exactly these bytes were delivered. What
was cut off at the end of the chain is noticed by who knows its last hash from before: --last. Exit code 3 means that something does not hold.`,
			Flags: []cli.Flag{
				stateFlag(), keyStoreFlag(), jsonFlag(), &cli.StringFlag{Name: "last", Usage: "a `HASH` that an earlier verify or export has shown"},
			},
			Action: verifyReceipts,
		},
		&cli.Command{
			Name: "export", Usage: "write all receipts to a file, as JSON lines",
			Description: `For an auditor: with the far gateway's signed receipts where there are some, and the chain's hash after each. Digests tell objects apart, so keep
the file as you keep these.`,
			Flags: []cli.Flag{
				stateFlag(), keyStoreFlag(), &cli.StringFlag{Name: "out", Required: true, Usage: "write to `FILE`, which must not exist; \"-\" is standard output"},
			},
			Action: func(c *cli.Context) error {
				if _, err := args(c); err != nil {
					return err
				}
				return exportReceipts(c)
			},
		})
}

// stoppedReceipts are those of a box whose gateway does not run.
type stoppedReceipts struct{ j *receipts.Journal }

func (s stoppedReceipts) Receipts(ctx context.Context, fn func(receipts.Entry) error) (receipts.Summary, error) {
	return s.j.Walk(ctx, fn)
}

// withReceipts runs do with the receipts of a box: through the gateway if it runs, else on its directory.
func withReceipts(c *cli.Context, do func(localapi.Receipts) error) error {
	client := localClient(c)
	_, err := client.Stats(c.Context)
	switch {
	case err == nil:
		return do(client)
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
	path := dir.Path(state.ReceiptsDir)
	if _, err := os.Stat(path); err != nil {
		return ui.Hint(errors.New("this box has no receipts"), "name its state directory with --state")
	}
	key, err := dir.ReceiptsKey()
	if err != nil {
		return explainKeyStore(err)
	}
	j, err := receipts.Open(path, key, receipts.Options{})
	if err != nil {
		return err //nolint:wrapcheck // says all
	}
	defer func() { _ = j.Close() }()
	return do(stoppedReceipts{j})
}

func listReceipts(c *cli.Context) error {
	limit, queue := c.Int("limit"), c.String("queue")
	if limit < 1 || limit > localapi.MaxItems {
		return ui.Usagef(fmt.Sprintf("between 1 and %d", localapi.MaxItems), "--limit %d makes no sense", limit)
	}
	return withReceipts(c, func(r localapi.Receipts) error {
		list := []receipts.Entry{}
		_, err := r.Receipts(c.Context, func(e receipts.Entry) error {
			if queue == "" || e.Queue == queue {
				list = append(list, e)
				list = list[max(len(list)-limit, 0):]
			}
			return nil
		})
		if err != nil {
			return err //nolint:wrapcheck // says all
		}
		return show(c, list, func(w io.Writer) error {
			if len(list) == 0 {
				fmt.Fprintln(w, "Nothing was delivered yet.")
				return nil
			}
			var rows [][]string
			for _, e := range list {
				rows = append(rows, []string{
					strconv.FormatUint(e.Seq, 10), e.Queue, e.Item, ui.Bytes(e.Size), timeOf(e.Taken), timeOf(e.At), e.Code, e.Peer, signedWord(len(e.Signed) > 0),
				})
			}
			return ui.Table(w, []string{"NUMBER", "QUEUE", "ITEM", "SIZE", "TAKEN", "DELIVERED", "ANSWER", "BY", "SIGNED"}, rows)
		})
	})
}

func signedWord(b bool) string {
	if b {
		return "yes"
	}
	return ""
}

// receiptCheck is what verify found.
type receiptCheck struct {
	receipts.Summary
	// Known is false when the hash of --last is not in the chain; it is left out without one.
	Known *bool           `json:"known,omitempty"`
	Files []receiptOfFile `json:"files,omitempty"`
}

type receiptOfFile struct {
	File string `json:"file"`
	// Receipt is the first of the file; left out if there is none.
	Receipt *receipts.Entry `json:"receipt,omitempty"`
}

func (r receiptCheck) good() bool {
	for _, f := range r.Files {
		if f.Receipt == nil {
			return false
		}
	}
	return r.Broken == "" && (r.Known == nil || *r.Known)
}

func verifyReceipts(c *cli.Context) error {
	sums := make([][]string, c.NArg())
	for i, name := range c.Args().Slice() {
		var err error
		if sums[i], err = sumsOf(name); err != nil {
			return err
		}
	}
	return withReceipts(c, func(r localapi.Receipts) error {
		check := receiptCheck{Files: make([]receiptOfFile, c.NArg())}
		wanted := map[string][]int{}
		for i, name := range c.Args().Slice() {
			check.Files[i].File = name
			for _, sum := range sums[i] {
				wanted[sum] = append(wanted[sum], i)
			}
		}
		last := c.String("last")
		known := last == ""
		var err error
		check.Summary, err = r.Receipts(c.Context, func(e receipts.Entry) error {
			known = known || e.Hash == last
			for _, i := range wanted[e.SHA256] {
				if check.Files[i].Receipt == nil {
					check.Files[i].Receipt = &e
				}
			}
			return nil
		})
		if err != nil {
			return err //nolint:wrapcheck // says all
		}
		if last != "" {
			known = known || check.Hash == last
			check.Known = &known
		}
		if err := show(c, check, func(w io.Writer) error { return printCheck(w, check) }); err != nil {
			return err
		}
		if !check.good() {
			return ui.Silent(ui.ExitUnhealthy)
		}
		return nil
	})
}

func printCheck(w io.Writer, check receiptCheck) error {
	fmt.Fprintf(w, "%s, numbers %d to %d.\n", ui.Count(check.Receipts, "receipt"), check.First, check.Last)
	if check.Broken != "" {
		fmt.Fprintf(w, "THE CHAIN IS BROKEN: %s\n", check.Broken)
	} else {
		fmt.Fprintf(w, "The chain holds. Its last hash is %s\n", check.Hash)
	}
	if check.Known != nil && !*check.Known {
		fmt.Fprintln(w, "THE HASH OF --last IS NOT IN THE CHAIN: receipts were cut off, or are older than what is kept.")
	}
	for _, f := range check.Files {
		if f.Receipt == nil {
			fmt.Fprintf(w, "%s: no receipt\n", f.File)
			continue
		}
		fmt.Fprintf(w, "%s: delivered %s, answer %q by %s (number %d)\n", f.File, timeOf(f.Receipt.At), f.Receipt.Code, f.Receipt.Peer, f.Receipt.Seq)
	}
	return nil
}

// sumsOf returns the digests that a file may have been delivered under: its own, and for a DICOM file that of its data set, which is what
// travels.
func sumsOf(name string) ([]string, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read the object: %w", err)
	}
	defer func() { _ = f.Close() }()
	whole := sha256.New()
	if _, err := io.Copy(whole, f); err != nil {
		return nil, fmt.Errorf("read the object: %w", err)
	}
	sums := []string{hexSum(whole)}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("read the object: %w", err)
	}
	_, body, err := dicom.ReadPart10(f)
	if err != nil {
		return sums, nil // it is no DICOM file
	}
	set := sha256.New()
	if _, err := io.Copy(set, body); err != nil {
		return nil, fmt.Errorf("read the object: %w", err)
	}
	return append(sums, hexSum(set)), nil
}

func hexSum(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

func exportReceipts(c *cli.Context) error {
	return withReceipts(c, func(r localapi.Receipts) error {
		var text bytes.Buffer
		sum, err := r.Receipts(c.Context, func(e receipts.Entry) error { return ui.JSONLine(&text, e) })
		if err != nil {
			return err //nolint:wrapcheck // says all
		}
		if sum.Broken != "" {
			fmt.Fprintf(c.App.ErrWriter, "The chain is broken: %s\n", sum.Broken)
		}
		name := c.String("out")
		if name == "-" {
			_, err := c.App.Writer.Write(text.Bytes())
			return err //nolint:wrapcheck // standard output
		}
		if _, err := os.Lstat(name); err == nil {
			return ui.Usagef("choose another name", "%s is there already", name)
		}
		if err := renameio.WriteFile(name, text.Bytes(), 0o600, renameio.WithStaticPermissions(0o600)); err != nil {
			return fmt.Errorf("export the receipts: %w", err)
		}
		return nil
	})
}
