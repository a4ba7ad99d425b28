package main

import (
	"fmt"

	"github.com/google/renameio/v2"
	"github.com/urfave/cli/v2"
	"rsc.io/qr"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
)

func qrPNGFlag() cli.Flag {
	return &cli.StringFlag{Name: "qr-png", TakesFile: true, Usage: "write it as a QR code to the PNG `FILE` too, which only its owner may read"}
}

// withQRPNG writes text to the file of --qr-png, if there is one, also when shown failed: a token is made once.
func withQRPNG(c *cli.Context, text string, shown error) error {
	path := c.String("qr-png")
	if path == "" {
		return shown
	}
	if err := writeQRPNG(path, text); err != nil {
		return ui.Hint(err, "the token is good: take the text above, or revoke it and make another")
	}
	return shown
}

// writeQRPNG replaces a file whole. The picture is as secret as the text in it.
func writeQRPNG(path, text string) error {
	code, err := qr.Encode(text, qr.L)
	if err != nil {
		return fmt.Errorf("draw the QR code: %w", err)
	}
	// renameio.WriteFile would keep the permissions of a file that was there.
	f, err := renameio.NewPendingFile(path, renameio.WithStaticPermissions(0o600))
	if err != nil {
		return fmt.Errorf("write the QR code: %w", err)
	}
	defer func() { _ = f.Cleanup() }()
	if _, err := f.Write(code.PNG()); err != nil {
		return fmt.Errorf("write the QR code: %w", err)
	}
	if err := f.CloseAtomicallyReplace(); err != nil {
		return fmt.Errorf("write the QR code: %w", err)
	}
	return nil
}
