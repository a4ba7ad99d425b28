package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/ipam/plandoc"
	"github.com/towpath/towpath/provisioning/adminapi"
	"github.com/towpath/towpath/provisioning/prove"
)

// The forms of "plan export".
const (
	formCSV   = "csv"
	formJSON  = "json"
	formProof = "proof"
)

// planFileCommands are the commands that work with the plan as a document.
func planFileCommands() []*cli.Command {
	return []*cli.Command{
		{
			Name: "export", Usage: "write the plan to standard output",
			Description: `csv is the spreadsheet form (site, range, comment), json the same without loss of detail; "plan check" and "plan diff" read both.
proof is everything that "plan prove" needs: plan, grants and the map of every node. None of them holds a secret.`,
			Flags:  []cli.Flag{dirFlag(), &cli.StringFlag{Name: "format", Value: formCSV, Usage: "`FORM`: csv, json or proof"}},
			Action: exportPlan,
		},
		planImportCommand(),
		{
			Name: "check", Usage: "list what is wrong with the plan as it is, or every conflict of a plan in a file, and change nothing", ArgsUsage: "[FILE]",
			Description: `Without FILE it lists what should be known about the plan, each with a proposal; exit code 3 means that something is an error.
FILE is CSV (site, range, comment; comma, semicolon or tab) or JSON. Every conflict is listed with its line, in the file itself and with the
plan of the coordinator; --alone checks the file in itself only. Exit code 1 means conflicts.

Examples:
  towpath plan check
  towpath plan check sheet.csv`,
			Flags:  []cli.Flag{dirFlag(), jsonFlag(), &cli.BoolFlag{Name: "alone", Usage: "without the coordinator's plan"}},
			Action: checkPlan,
		},
		{
			Name: "diff", Usage: "show how a plan in a file differs from the coordinator's, or from another file", ArgsUsage: "FILE [FILE]",
			Flags:  []cli.Flag{dirFlag(), jsonFlag()},
			Action: diffPlans,
		},
		{
			Name: "prove", Usage: "prove that nothing overlaps, every grant works and no clinic can reach another", ArgsUsage: "[FILE]",
			Description: `FILE is what "plan export --format proof" wrote; the proof then needs neither coordinator nor database. Without FILE the coordinator is
asked. It prints a certificate, or what refutes it in words, with exit code 1.`,
			Flags:  []cli.Flag{dirFlag(), jsonFlag()},
			Action: provePlan,
		},
	}
}

func exportPlan(c *cli.Context) error {
	if _, err := args(c); err != nil {
		return err
	}
	form := c.String("format")
	if form != formCSV && form != formJSON && form != formProof {
		return ui.Usagef("csv, json or proof", "there is no form %q", form)
	}
	e, err := adminClient(c).Export(c.Context)
	if err != nil {
		return offline(c, err)
	}
	switch form {
	case formCSV:
		return plandoc.WriteCSV(c.App.Writer, e.Input.Plan)
	case formJSON:
		return plandoc.WriteJSON(c.App.Writer, e.Input.Plan)
	default:
		return ui.JSON(c.App.Writer, e)
	}
}

// readPlan reads a plan file of either form. Its problems are listed for the person, with the lines they are in.
func readPlan(path string) (plandoc.Document, []plandoc.Problem, error) {
	b, err := readLimited(path, plandoc.MaxBytes)
	if err != nil {
		return plandoc.Document{}, nil, err
	}
	read := plandoc.ReadCSV
	if t := bytes.TrimLeft(b, " \t\r\n\ufeff"); len(t) > 0 && (t[0] == '{' || t[0] == '[') {
		read = plandoc.ReadJSON
	}
	d, problems, err := read(bytes.NewReader(b))
	if err != nil {
		return d, nil, fmt.Errorf("read %s: %w", path, err)
	}
	return d, problems, nil
}

func readLimited(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the plan: %w", err)
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read the plan: %w", err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s is larger than %s", path, ui.Bytes(limit))
	}
	return b, nil
}

func checkPlan(c *cli.Context) error {
	file, err := optionalArg(c, "FILE")
	if err != nil {
		return err
	}
	if file == "" {
		return checkLivePlan(c)
	}
	d, problems, err := readPlan(file)
	if err != nil {
		return err
	}
	var existing plandoc.Document
	if !c.Bool("alone") {
		e, err := adminClient(c).Export(c.Context)
		if err != nil {
			return offline(c, err)
		}
		existing = e.Input.Plan
	}
	problems = append(problems, plandoc.Check(d, existing)...)
	slices.SortStableFunc(problems, func(a, b plandoc.Problem) int { return cmp.Compare(a.Line, b.Line) })
	err = show(c, problems, func(w io.Writer) error {
		for _, p := range problems {
			fmt.Fprintln(w, p)
		}
		if len(problems) == 0 {
			fmt.Fprintf(w, "%d ranges, no conflict.\n", len(d.Entries))
		}
		return nil
	})
	if err == nil && len(problems) > 0 {
		return ui.Silent(ui.ExitFailed)
	}
	return err
}

// checkLivePlan lists the findings.
func checkLivePlan(c *cli.Context) error {
	if c.Bool("alone") {
		return ui.Usagef("give a FILE", "--alone has no meaning without a file")
	}
	all, err := adminClient(c).Findings(c.Context)
	if err != nil {
		return offline(c, err)
	}
	count := map[string]int{}
	for _, f := range all {
		count[f.Severity]++
	}
	err = show(c, all, func(w io.Writer) error {
		printFindings(w, all)
		if len(all) == 0 {
			return say(w, "Nothing is wrong with the plan.")
		}
		return say(w, "%s, %s, %d for information.", ui.Count(count["error"], "error"), ui.Count(count["warning"], "warning"), count["info"])
	})
	if err == nil && count["error"] > 0 {
		return ui.Silent(ui.ExitUnhealthy)
	}
	return err
}

func diffPlans(c *cli.Context) error {
	paths := c.Args().Slice()
	if len(paths) == 0 || len(paths) > 2 {
		_, err := args(c, "FILE")
		return err
	}
	docs := make([]plandoc.Document, 0, 2)
	if len(paths) == 1 {
		e, err := adminClient(c).Export(c.Context)
		if err != nil {
			return offline(c, err)
		}
		docs = append(docs, e.Input.Plan)
	}
	for _, p := range paths {
		d, problems, err := readPlan(p)
		if err != nil {
			return err
		}
		if len(problems) > 0 {
			return ui.Hint(fmt.Errorf("%s: %s", p, problems[0]), "\"towpath plan check\" lists all that is wrong with it")
		}
		docs = append(docs, d)
	}
	changes := plandoc.Diff(docs[0], docs[1])
	return show(c, changes, func(w io.Writer) error {
		for _, ch := range changes {
			fmt.Fprintln(w, ch)
		}
		if len(changes) == 0 {
			fmt.Fprintln(w, "No difference.")
		}
		return nil
	})
}

// maxExport is the largest proof export that is read, some 20,000 sites.
const maxExport = 512 << 20

func provePlan(c *cli.Context) error {
	if c.NArg() > 1 {
		_, err := args(c)
		return err
	}
	e, err := proofInput(c)
	if err != nil {
		return err
	}
	cert, err := prove.Prove(e.Input, prove.Stamp{Tool: versionText(), At: time.Now().UTC(), Generation: e.Generation})
	if refuted, ok := errors.AsType[*prove.RefutedError](err); ok {
		if err := show(c, refuted.CounterExamples, func(w io.Writer) error {
			for _, x := range refuted.CounterExamples {
				fmt.Fprintf(w, "REFUTED %s: %s\n", x.Statement, x)
			}
			return nil
		}); err != nil {
			return err
		}
		return ui.Silent(ui.ExitFailed)
	}
	if err != nil {
		return err
	}
	return show(c, cert, func(w io.Writer) error {
		fmt.Fprintf(w, "Network %s, generation %d: %d sites, %d nodes, %d grants, %d ranges, %d maps.\n", cert.Network, cert.Generation,
			cert.Counts.Sites, cert.Counts.Nodes, cert.Counts.Grants, cert.Counts.Ranges, cert.Counts.Maps)
		for _, s := range cert.Proven {
			fmt.Fprintf(w, "proven   %s\n", s.Text)
		}
		for _, s := range cert.Assumed {
			fmt.Fprintf(w, "assumed  %s\n", s)
		}
		fmt.Fprintf(w, "Digests of what was proven: plan %s, facts %s, maps %s\n", cert.Digests.Plan, cert.Digests.Facts, cert.Digests.Maps)
		return nil
	})
}

func proofInput(c *cli.Context) (adminapi.Export, error) {
	if c.NArg() == 0 {
		e, err := adminClient(c).Export(c.Context)
		return e, offline(c, err)
	}
	var e adminapi.Export
	b, err := readLimited(c.Args().First(), maxExport)
	if err != nil {
		return e, err
	}
	if err := json.Unmarshal(b, &e); err != nil {
		return e, ui.Hint(fmt.Errorf("%s is no proof export: %w", c.Args().First(), err), "make one with \"towpath plan export --format proof\"")
	}
	return e, nil
}
