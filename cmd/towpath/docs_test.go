package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/urfave/cli/v2"
)

var update = flag.Bool("update", false, "write the files that tests compare with")

// TestCommandReference keeps docs/cli.md what the program itself says.
func TestCommandReference(t *testing.T) {
	var b strings.Builder
	b.WriteString("# Commands\n\nMade from the program's own help texts by `go test ./cmd/towpath -run CommandReference -update`; do not edit.\n\n")
	app := newApp()
	b.WriteString(app.Description + "\n\nFlags may stand before or after arguments. Reading commands take `--json`.\n")
	for _, c := range app.Commands {
		describe(&b, "towpath", c)
	}
	path := filepath.Join("..", "..", "docs", "cli.md")
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(got), b.String()); d != "" {
		t.Errorf("docs/cli.md is not what the program says; run this test with -update (-file +program):\n%s", d)
	}
}

func describe(b *strings.Builder, parent string, c *cli.Command) {
	name := parent + " " + c.Name
	if len(c.Subcommands) > 0 {
		for _, s := range c.Subcommands {
			describe(b, name, s)
		}
		return
	}
	usage := name
	if c.ArgsUsage != "" {
		usage += " " + c.ArgsUsage
	}
	fmt.Fprintf(b, "\n## %s\n\n`%s`: %s.\n", name, usage, c.Usage)
	writeDescription(b, c.Description)
	if len(c.Flags) == 0 {
		return
	}
	b.WriteString("\n| flag | default | meaning |\n|---|---|---|\n")
	for _, f := range c.Flags {
		d, ok := f.(cli.DocGenerationFlag)
		if !ok {
			continue
		}
		names := make([]string, 0, 2)
		for _, n := range f.Names() {
			if len(n) == 1 {
				names = append(names, "`-"+n+"`")
			} else {
				names = append(names, "`--"+n+"`")
			}
		}
		def := d.GetDefaultText()
		if s, ok := f.(*cli.StringFlag); ok {
			def = s.Value
		}
		if def == "" || def == "false" || def == "0" {
			def = "–"
		}
		fmt.Fprintf(b, "| %s | %s | %s |\n", strings.Join(names, ", "), strings.Trim(def, `"`), strings.ReplaceAll(d.GetUsage(), "`", "*"))
	}
}

// writeDescription makes a block of the examples at the end of a help text.
func writeDescription(b *strings.Builder, text string) {
	prose, examples := text, ""
	for _, heading := range []string{"Examples:\n", "Example:\n"} {
		if before, after, ok := strings.Cut(text, heading); ok {
			prose, examples = strings.TrimSpace(before), after
		}
	}
	if prose != "" {
		fmt.Fprintf(b, "\n%s\n", prose)
	}
	if examples != "" {
		b.WriteString("\n```sh\n")
		for line := range strings.Lines(examples) {
			b.WriteString(strings.TrimSpace(line) + "\n")
		}
		b.WriteString("```\n")
	}
}

// TestEveryCommandHelps makes sure that a stranger finds words at every command and flag.
func TestEveryCommandHelps(t *testing.T) {
	var walk func(parent string, all []*cli.Command)
	walk = func(parent string, all []*cli.Command) {
		for _, c := range all {
			name := parent + " " + c.Name
			if c.Usage == "" {
				t.Errorf("%s has no usage", name)
			}
			for _, f := range c.Flags {
				if d, ok := f.(cli.DocGenerationFlag); ok && d.GetUsage() == "" {
					t.Errorf("%s --%s has no usage", name, f.Names()[0])
				}
			}
			walk(name, c.Subcommands)
		}
	}
	walk("towpath", newApp().Commands)
}

func TestPermute(t *testing.T) {
	app := newApp()
	for _, c := range []struct{ in, want string }{
		{"towpath site add north --kind clinic", "towpath site add --kind clinic north"},
		{"towpath enroll TOKEN --state /x --json", "towpath enroll --state /x --json TOKEN"},
		{"towpath site add --kind clinic north", "towpath site add --kind clinic north"},
		{"towpath site list --json", "towpath site list --json"},
		{"towpath enroll --state=/x TOKEN -- --odd", "towpath enroll --state=/x TOKEN -- --odd"},
		{"towpath enroll -", "towpath enroll -"},
		{"towpath", "towpath"},
	} {
		got := strings.Join(permute(app, strings.Fields(c.in)), " ")
		if got != c.want {
			t.Errorf("permute %q = %q, want %q", c.in, got, c.want)
		}
	}
}
