package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// permute moves flags in front of positional arguments, within the command they belong to, so that "site add north --kind center"
// means what it says: the framework stops looking for flags at the first argument. Everything after "--" stays where it is.
func permute(app *cli.App, argv []string) []string {
	if len(argv) == 0 {
		return argv
	}
	out, rest := argv[:1:1], argv[1:]
	commands, flags := app.Commands, app.Flags
	var flagArgs, positional []string
	for len(rest) > 0 {
		a := rest[0]
		rest = rest[1:]
		switch {
		case a == "--":
			positional = append(positional, append([]string{a}, rest...)...)
			rest = nil
		case len(a) > 1 && a[0] == '-':
			flagArgs = append(flagArgs, a)
			if takesValue(flags, a) && len(rest) > 0 {
				flagArgs = append(flagArgs, rest[0])
				rest = rest[1:]
			}
		default:
			if sub := find(commands, a); sub != nil && len(positional) == 0 {
				out = append(append(out, flagArgs...), a)
				flagArgs, commands, flags = nil, sub.Subcommands, sub.Flags
				continue
			}
			positional = append(positional, a)
		}
	}
	return append(append(out, flagArgs...), positional...)
}

func find(commands []*cli.Command, name string) *cli.Command {
	for _, c := range commands {
		if c.HasName(name) {
			return c
		}
	}
	return nil
}

// takesValue reports whether the next word belongs to flag a.
func takesValue(flags []cli.Flag, a string) bool {
	name := strings.TrimLeft(a, "-")
	if strings.Contains(name, "=") {
		return false
	}
	for _, f := range flags {
		if slices.Contains(f.Names(), name) {
			_, isBool := f.(*cli.BoolFlag)
			return !isBool
		}
	}
	return false
}
