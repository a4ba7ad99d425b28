package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/gateway/lan"
	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/hl7"
)

// maxMessage is the largest message a technician can send from a file.
const maxMessage = 64 << 20

func hl7Command() *cli.Command {
	return group("hl7", "tools for technicians: send, receive and inspect HL7 v2 messages",
		&cli.Command{
			Name: "send", Usage: "send the message in each file over MLLP and show the answer", ArgsUsage: "HOST:PORT FILE...",
			Description: `The file's bytes are sent as they are. "-" reads standard input. Exit code 1 means that an answer was not positive, 4 that
nobody could be reached or nobody answered in time.`,
			Flags: []cli.Flag{
				jsonFlag(),
				&cli.DurationFlag{Name: "timeout", Value: hl7.DefaultAckTimeout, Usage: "`TIME` that each answer may take"},
				&cli.BoolFlag{Name: "commit", Usage: "use commit acknowledgments (MLLP, release 2)"},
			},
			Action: sendMessages,
		},
		&cli.Command{
			Name: "listen", Usage: "receive messages into a folder, until stopped", ArgsUsage: "FOLDER",
			Description: `Each message is stored as a file, synced, and then answered AA or CA. With --json each is told as a line of JSON.`,
			Flags: []cli.Flag{
				jsonFlag(),
				&cli.StringFlag{Name: "listen", Value: ":2575", Usage: "`ADDRESS:PORT` to listen at"},
				&cli.IntFlag{Name: "count", Usage: "end after this `NUMBER` of messages"},
			},
			Action: listenMessages,
		},
		&cli.Command{
			Name: "inspect", Usage: "say what is wrong with the message in a file", ArgsUsage: "FILE|-",
			Description: `Takes one message or batch as it stands in a file, or what was recorded of a connection with its MLLP frames. It names places and
never shows what stands in a patient's fields. Exit code 1 means that something is wrong with it.`,
			Flags:  []cli.Flag{jsonFlag()},
			Action: inspectMessage,
		},
	)
}

// sentMessage is the fate of one file.
type sentMessage struct {
	File string `json:"file"`
	// Code is MSA-1, empty where the message asks for no answer.
	Code      string        `json:"code,omitempty"`
	Text      string        `json:"text,omitempty"`
	Condition string        `json:"condition,omitempty"`
	Took      time.Duration `json:"took_ns"`
}

func sendMessages(c *cli.Context) error {
	if c.NArg() < 2 {
		_, err := args(c, "HOST:PORT", "FILE")
		return err
	}
	if c.Duration("timeout") <= 0 {
		return ui.Usagef("such as 30s", "--timeout %s makes no sense", c.Duration("timeout"))
	}
	sent, refused := []sentMessage{}, 0
	for _, path := range c.Args().Slice()[1:] {
		m, ok, err := sendMessage(c, path)
		if err != nil {
			return err
		}
		if !ok {
			refused++
		}
		sent = append(sent, m)
		if !c.Bool("json") {
			fmt.Fprintf(c.App.Writer, "%s: %s %s\n", path, m.Code, m.Text)
		}
	}
	if c.Bool("json") {
		if err := ui.JSON(c.App.Writer, sent); err != nil {
			return err
		}
	}
	if refused > 0 {
		return ui.Silent(ui.ExitFailed)
	}
	return nil
}

// sendMessage reports whether the answer, if there must be one, was positive.
func sendMessage(c *cli.Context, path string) (sentMessage, bool, error) {
	msg, err := readMessage(path)
	if err != nil {
		return sentMessage{}, false, err
	}
	began := time.Now()
	ack, err := hl7.Send(c.Context, hl7.SendConfig{
		Network: &lan.Network{}, Target: c.Args().First(), AckTimeout: c.Duration("timeout"), Commit: c.Bool("commit"),
	}, msg)
	switch {
	case errors.Is(err, hl7.ErrUnreachable), errors.Is(err, hl7.ErrNoAnswer):
		return sentMessage{}, false, &ui.Error{
			Err: fmt.Errorf("%s: %w", path, err), Code: ui.ExitDenied, Hint: "check address and port, that the receiver runs, and that it speaks MLLP there",
		}
	case errors.Is(err, hl7.ErrNotHL7):
		return sentMessage{}, false, ui.Hint(fmt.Errorf("%s: %w", path, err), "\"towpath hl7 inspect %s\" says more", path)
	case err != nil:
		return sentMessage{}, false, fmt.Errorf("%s: %w", path, err)
	}
	m := sentMessage{File: path, Code: string(ack.Code), Text: ack.Text, Condition: ack.Condition, Took: time.Since(began)}
	return m, ack.Code == "" || ack.Code.OK(), nil
}

// heardMessage is one that was stored.
type heardMessage struct {
	File   string `json:"file"`
	Type   string `json:"type"`
	Bytes  int    `json:"bytes"`
	SHA256 string `json:"sha256"`
}

func listenMessages(c *cli.Context) error {
	a, err := args(c, "FOLDER")
	if err != nil {
		return err
	}
	if c.Int("count") < 0 {
		return ui.Usagef("give a number from 1 on", "--count %d makes no sense", c.Int("count"))
	}
	log := newLogger(c)
	ctx, stop := context.WithCancel(c.Context)
	defer stop()
	heard := 0
	in, err := hl7.NewInbox(hl7.InboxConfig{Dir: a[0], Log: log, OnMessage: func(m hl7.Message) {
		sum := sha256.Sum256(m.Raw)
		h := heardMessage{File: m.Path, Type: m.Header.Type(), Bytes: len(m.Raw), SHA256: hex.EncodeToString(sum[:])}
		if c.Bool("json") {
			_ = ui.JSONLine(c.App.Writer, h)
		} else {
			fmt.Fprintf(c.App.Writer, "%s  %d bytes  %s\n", h.SHA256, h.Bytes, h.File)
		}
		if heard++; heard == c.Int("count") {
			stop()
		}
	}})
	if err != nil {
		return err
	}
	l, err := listenTCP(ctx, c.String("listen"), "--listen")
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "listening at %s; Ctrl-C ends\n", l.Addr())
	return proxy.NewServer(proxy.ServerConfig{Name: "hl7", Listener: l, Handler: in, Log: log}).Serve(ctx)
}

func inspectMessage(c *cli.Context) error {
	a, err := args(c, "FILE|-")
	if err != nil {
		return err
	}
	data, err := readMessage(a[0])
	if err != nil {
		return err
	}
	r := hl7.Inspect(data)
	if err := show(c, r, func(w io.Writer) error { return printInspection(w, r) }); err != nil {
		return err
	}
	if r.Worst() == hl7.Wrong {
		return ui.Silent(ui.ExitFailed)
	}
	return nil
}

func printInspection(w io.Writer, r hl7.Report) error {
	for i, m := range r.Messages {
		what := "message"
		if m.Batch {
			what = "batch"
		}
		charset := m.Charset
		if charset == "" {
			charset = "no character set declared"
		}
		fmt.Fprintf(w, "%s %d: %s, version %s, %s, %s acknowledgment, %d segments, %d bytes\n", what, i+1, orDash(m.Type), orDash(m.Version), charset,
			orDash(m.Mode), m.Segments, m.Bytes)
	}
	for _, f := range r.Findings {
		at := ""
		if f.Message > 0 && len(r.Messages) > 1 {
			at = fmt.Sprintf(" (message %d)", f.Message)
		}
		fmt.Fprintf(w, "%s%s: %s\n", f.Level, at, f.Text)
		if f.Hint != "" {
			fmt.Fprintf(w, "  hint: %s\n", f.Hint)
		}
	}
	if len(r.Findings) == 0 {
		fmt.Fprintln(w, "Nothing is wrong with it.")
	}
	return nil
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func readMessage(path string) ([]byte, error) {
	f := os.Stdin
	if path != "-" {
		var err error
		if f, err = os.Open(path); err != nil {
			return nil, fmt.Errorf("read the message: %w", err)
		}
		defer func() { _ = f.Close() }()
	}
	b, err := io.ReadAll(io.LimitReader(f, maxMessage+1))
	if err != nil {
		return nil, fmt.Errorf("read the message: %w", err)
	}
	if len(b) > maxMessage {
		return nil, fmt.Errorf("%s is longer than %s", path, ui.Bytes(maxMessage))
	}
	return b, nil
}
