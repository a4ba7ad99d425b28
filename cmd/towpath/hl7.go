package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/gateway/lan"
	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/hl7"
)

// maxMessage is the largest message a technician can send from a file.
const maxMessage = 64 << 20

func hl7Command() *cli.Command {
	return group("hl7", "tools for technicians: send and receive HL7 v2 messages",
		&cli.Command{
			Name: "send", Usage: "send the message in each file over MLLP and show the answer", ArgsUsage: "HOST:PORT FILE...",
			Description: `The file's bytes are sent as they are. "-" reads standard input. Exit code 1 means that an answer was not positive.`,
			Action:      sendMessages,
		},
		&cli.Command{
			Name: "listen", Usage: "receive messages into a folder, until stopped", ArgsUsage: "FOLDER",
			Flags: []cli.Flag{&cli.StringFlag{Name: "listen", Value: ":2575", Usage: "`ADDRESS:PORT` to listen at"}},
			Action: func(c *cli.Context) error {
				a, err := args(c, "FOLDER")
				if err != nil {
					return err
				}
				log := newLogger(c)
				in, err := hl7.NewInbox(hl7.InboxConfig{Dir: a[0], Log: log, OnMessage: func(m hl7.Message) {
					sum := sha256.Sum256(m.Raw)
					fmt.Fprintf(c.App.Writer, "%s  %d bytes  %s\n", hex.EncodeToString(sum[:]), len(m.Raw), m.Path)
				}})
				if err != nil {
					return err
				}
				l, err := listenTCP(c.Context, c.String("listen"), "--listen")
				if err != nil {
					return err
				}
				fmt.Fprintf(os.Stderr, "listening at %s; Ctrl-C ends\n", l.Addr())
				return proxy.NewServer(proxy.ServerConfig{Name: "hl7", Listener: l, Handler: in, Log: log}).Serve(c.Context)
			},
		},
	)
}

func sendMessages(c *cli.Context) error {
	if c.NArg() < 2 {
		_, err := args(c, "HOST:PORT", "FILE")
		return err
	}
	refused := 0
	for _, path := range c.Args().Slice()[1:] {
		msg, err := readMessage(path)
		if err != nil {
			return err
		}
		ack, err := hl7.Send(c.Context, hl7.SendConfig{Network: &lan.Network{}, Target: c.Args().First()}, msg)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		fmt.Fprintf(c.App.Writer, "%s: %s %s\n", path, ack.Code, ack.Text)
		if !ack.Code.OK() {
			refused++
		}
	}
	if refused > 0 {
		return ui.Silent(ui.ExitFailed)
	}
	return nil
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
