package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/gateway/localapi"
	"github.com/towpath/towpath/tunnel/capture"
)

// captureFor is how long a capture takes unless somebody says otherwise.
const captureFor = 30 * time.Second

func captureCommand() *cli.Command {
	return &cli.Command{
		Name: "capture", Usage: "write the headers of the packets in this machine's tunnel to a file for tcpdump or Wireshark",
		Description: fmt.Sprintf(`Of each packet only the IP header and the TCP, UDP or ICMP header are kept, never what follows: no DICOM, no HL7, no patient. What is left are
addresses, ports, sizes and times. It ends after --for, at %s, or with Ctrl-C.`, ui.Bytes(capture.MaxBytes)),
		OnUsageError: usageError,
		Flags: []cli.Flag{
			stateFlag(),
			&cli.StringFlag{Name: "peer", Usage: "only packets from and to a `SITE`, \"coordinator\", an address or a prefix"},
			&cli.DurationFlag{Name: "for", Value: captureFor, Usage: "for how long, at most one hour, as a `DURATION`"},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "`FILE` to write, which must not exist; standard output if not given"},
		},
		Action: func(c *cli.Context) error {
			if _, err := args(c); err != nil {
				return err
			}
			d := c.Duration("for")
			if d <= 0 || d > capture.MaxTime {
				return ui.Usagef("between 1s and 1h", "--for %v makes no sense", d)
			}
			return runCapture(c, localapi.CaptureRequest{Peer: c.String("peer"), For: d})
		},
	}
}

func runCapture(c *cli.Context, r localapi.CaptureRequest) error {
	w, path := c.App.Writer, c.String("output")
	if path == "" && terminal(os.Stdout) {
		return ui.Usagef("name a file with --output, or send it on: towpath capture | tcpdump -n -r -", "a capture is not for a terminal")
	}
	var file *os.File
	if path != "" {
		var err error
		if file, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
			return fmt.Errorf("make the file: %w", err)
		}
		w = file
	}
	res, err := localClient(c).Capture(c.Context, r, w)
	if file != nil {
		err = errors.Join(err, closeCapture(file))
	}
	if err != nil {
		return notRunning(c, err)
	}
	return tellCapture(c.App.ErrWriter, res, c.Context.Err() != nil)
}

// closeCapture also takes away a file without anything in it, which no tool could read.
func closeCapture(f *os.File) error {
	info, err := f.Stat()
	if err == nil && info.Size() == 0 {
		err = os.Remove(f.Name())
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("close the capture: %w", err)
	}
	return nil
}

func tellCapture(w io.Writer, r capture.Result, stopped bool) error {
	if stopped {
		return nil // nobody has counted
	}
	if _, err := fmt.Fprintf(w, "%d packets\n", r.Packets); err != nil {
		return fmt.Errorf("say what was captured: %w", err)
	}
	if r.Missed > 0 {
		fmt.Fprintf(w, "%d more passed too fast and are missing\n", r.Missed)
	}
	if r.Full {
		fmt.Fprintf(w, "it ended early, because it was as large as it may be\n")
	}
	return nil
}
