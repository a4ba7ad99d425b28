package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/wire"
)

// Set by the linker, see the Makefile.
var (
	version    = "development"
	commitDate = "" //nolint:gochecknoglobals // the linker sets variables only
)

func main() { os.Exit(run(os.Args)) }

func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	app := newApp()
	err := app.RunContext(ctx, permute(app, args))
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = nil // ended by the person at the keyboard or by the supervisor: an orderly end
	}
	return ui.Report(os.Stderr, explain(err))
}

func newApp() *cli.App {
	return &cli.App{
		Name:    "towpath",
		Usage:   "carry DICOM and HL7 from clinics to the center that reads them, inside WireGuard only",
		Version: version,
		Description: `One binary for every role. The center runs "towpath coordinator"; a clinic's box runs "towpath gateway" after
"towpath enroll TOKEN". "towpath demo" shows the whole way on this machine, without root.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 done but unhealthy, 4 denied.`,
		Commands: []*cli.Command{
			demoCommand(),
			coordinatorCommand(), planCommand(), siteCommand(), serviceCommand(), deviceCommand(), allowCommand(), disallowCommand(), pollCommand(),
			tokenCommand(), nodeCommand(), peerCommand(), eventsCommand(), tlsCommand(), transitionCommand(),
			signCommand(), enrollCommand(), gatewayCommand(), relayCommand(), keystoreCommand(), upCommand(), statusCommand(), doctorCommand(), queueCommand(), studiesCommand(), traceCommand(), receiptsCommand(), probeCommand(), captureCommand(), firewallCommand(),
			certCommand(), dicomCommand(), hl7Command(),
		},
		EnableBashCompletion: true,
		HideHelpCommand:      true,
		Suggest:              true,
		// Errors are reported in one place, with their hint.
		ExitErrHandler: func(*cli.Context, error) {},
		OnUsageError: func(_ *cli.Context, err error, _ bool) error {
			return ui.Usagef(`see "towpath help"`, "%w", err)
		},
		CommandNotFound: func(*cli.Context, string) {},
		Action:          unknownCommand,
		Before: func(c *cli.Context) error {
			cli.VersionPrinter = func(c *cli.Context) { fmt.Fprintln(c.App.Writer, versionText()) }
			return nil
		},
	}
}

func versionText() string {
	if commitDate == "" {
		return "towpath " + version
	}
	return "towpath " + version + " of " + commitDate
}

// unknownCommand runs when no subcommand fits: help without arguments, an error with them.
func unknownCommand(c *cli.Context) error {
	if c.NArg() == 0 {
		return cli.ShowAppHelp(c)
	}
	return ui.Usagef(`see "towpath --help"`, "there is no command %q", c.Args().First())
}

// group is a command that only holds others.
func group(name, usage string, sub ...*cli.Command) *cli.Command {
	for _, s := range sub {
		s.OnUsageError = usageError
	}
	return &cli.Command{
		Name: name, Usage: usage, Subcommands: sub, HideHelpCommand: true, OnUsageError: usageError,
		Action: func(c *cli.Context) error {
			if c.NArg() == 0 {
				return cli.ShowSubcommandHelp(c)
			}
			return ui.Usagef(fmt.Sprintf("see \"towpath %s --help\"", name), "there is no command \"%s %s\"", name, c.Args().First())
		},
	}
}

func usageError(c *cli.Context, err error, _ bool) error {
	return ui.Usagef(fmt.Sprintf("see \"%s --help\"", c.Command.HelpName), "%w", err)
}

// args returns the positional arguments, which must be as many as there are names.
func args(c *cli.Context, names ...string) ([]string, error) {
	got := c.Args().Slice()
	hint := fmt.Sprintf("see \"%s --help\"", c.Command.HelpName)
	if len(got) < len(names) {
		return nil, ui.Usagef(hint, "%s is missing", names[len(got)])
	}
	if len(got) > len(names) {
		return nil, ui.Usagef(hint, "%q is one argument too many", got[len(names)])
	}
	return got, nil
}

// explain gives the errors of the packages below their hint and exit code.
func explain(err error) error {
	if err == nil {
		return nil
	}
	err = explainKeyStore(err)
	if _, ok := errors.AsType[*ui.Error](err); ok {
		return err
	}
	if e, ok := errors.AsType[*provisioning.Error](err); ok {
		return &ui.Error{Err: err, Hint: e.Hint, Code: exitCode(e.Code)}
	}
	// The framework's own error has no type that can be named.
	if text := err.Error(); strings.HasPrefix(text, "Required flag") && strings.Count(text, `"`) == 2 {
		names := strings.ReplaceAll(strings.Split(text, `"`)[1], ", ", ", --")
		return ui.Usagef("--help says what flags mean", "what is missing: --%s", names)
	}
	if e, ok := errors.AsType[*wire.Refusal](err); ok {
		return &ui.Error{Err: err, Hint: e.Hint, Code: exitCode(provisioning.Code(e.Code))}
	}
	return err
}

func exitCode(c provisioning.Code) int {
	switch c {
	case provisioning.Invalid:
		return ui.ExitUsage
	case provisioning.Denied, provisioning.Expired:
		return ui.ExitDenied
	case provisioning.NotFound, provisioning.Conflict, provisioning.Unavailable:
		return ui.ExitFailed
	}
	return ui.ExitFailed
}

// jsonFlag is of all commands that read.
func jsonFlag() cli.Flag { return &cli.BoolFlag{Name: "json", Usage: "write JSON instead of a table"} }

// logFlags are of all commands that stay.
func logFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}, Usage: "log every detail"},
		&cli.BoolFlag{Name: "log-json", Usage: "log as JSON"},
	}
}

// show writes v as JSON if asked for, else as table() says.
func show(c *cli.Context, v any, table func(io.Writer) error) error {
	if c.Bool("json") {
		return ui.JSON(c.App.Writer, v)
	}
	return table(c.App.Writer)
}

func newLogger(c *cli.Context) *slog.Logger {
	opt := &slog.HandlerOptions{Level: slog.LevelInfo}
	if c.Bool("verbose") {
		opt.Level = slog.LevelDebug
	}
	if c.Bool("log-json") {
		return slog.New(slog.NewJSONHandler(os.Stderr, opt))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, opt))
}

// terminal reports whether a person may sit at f.
func terminal(f *os.File) bool {
	st, err := f.Stat()
	if err != nil || st.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(st, null)
}
