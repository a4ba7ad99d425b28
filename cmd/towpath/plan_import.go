package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/ipam/plandoc"
	"github.com/towpath/towpath/provisioning/adminapi"
)

func planImportCommand() *cli.Command {
	return &cli.Command{
		Name: "import", Usage: "take over a plan from a file, all of it or nothing", ArgsUsage: "FILE",
		Description: `The file is a spreadsheet as CSV (site, range, comment; comma, semicolon or tab) or what "plan export" wrote. It lists every problem with
its line, or every addition. What the plan has already is left as it is. Sites that are not there yet become clinics. Exit code 1 means
problems; then nothing was changed.

Examples:
  towpath plan import sheet.csv --dry-run
  towpath plan import sheet.csv`,
		Flags: []cli.Flag{
			dirFlag(), jsonFlag(),
			&cli.BoolFlag{Name: "dry-run", Usage: "list what would be added, and change nothing"},
			&cli.BoolFlag{Name: "no-create-sites", Usage: "a site that is not there yet is a problem"},
			&cli.BoolFlag{Name: "force", Usage: "take pools that are a bad idea"},
		},
		Action: importPlan,
	}
}

// importSlow is from how many ranges on a person is told that work goes on.
const importSlow = 1000

func importPlan(c *cli.Context) error {
	a, err := args(c, "FILE")
	if err != nil {
		return err
	}
	d, problems, err := readPlan(a[0])
	if err != nil {
		return err
	}
	if len(d.Entries) == 0 && len(problems) == 0 {
		return ui.Hint(fmt.Errorf("%s has no range", a[0]), "it must have a line with site, range and comment for each")
	}
	working := func(int, string) {}
	if len(d.Entries) >= importSlow && terminal(os.Stderr) {
		working = ui.NewProgress(os.Stderr, true, "import", 2).Set
	}
	working(1, fmt.Sprintf("%d ranges are read, the coordinator compares them with its plan", len(d.Entries)))
	// A file in which something cannot be read is not taken over, but its conflicts are listed too.
	r, err := adminClient(c).ImportPlan(c.Context, d, adminapi.ImportOptions{
		DryRun: c.Bool("dry-run") || len(problems) > 0, CreateSites: !c.Bool("no-create-sites"), Force: c.Bool("force"),
	})
	working(2, "")
	if err != nil {
		return offline(c, err)
	}
	if len(problems) > 0 {
		r.Changes, r.Sites = []adminapi.Change{}, []string{}
	}
	for _, p := range problems {
		r.Problems = append(r.Problems, adminapi.Problematic(p))
	}
	slices.SortStableFunc(r.Problems, func(a, b adminapi.Problematic) int { return cmp.Compare(a.Line, b.Line) })
	if err := show(c, r, func(w io.Writer) error { return printImport(w, r) }); err != nil {
		return err
	}
	if len(r.Problems) > 0 {
		return ui.Silent(ui.ExitFailed)
	}
	return nil
}

func printImport(w io.Writer, r adminapi.ImportResult) error {
	if len(r.Problems) > 0 {
		for _, p := range r.Problems {
			fmt.Fprintln(w, plandoc.Problem(p))
		}
		return say(w, "%s; nothing was changed.", ui.Count(len(r.Problems), "problem"))
	}
	for _, ch := range r.Changes {
		fmt.Fprintln(w, ch.Text)
	}
	if len(r.Changes)+len(r.Sites) == 0 {
		return say(w, "The plan has all of it already.")
	}
	counts := ui.Count(len(r.Changes), "range")
	if len(r.Sites) > 0 {
		counts += " and " + ui.Count(len(r.Sites), "site")
	}
	if !r.Done {
		return say(w, "%s would be added. Nothing was changed: this was a dry run.", counts)
	}
	return say(w, "Added %s.", counts)
}
