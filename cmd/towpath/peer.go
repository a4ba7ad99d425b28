package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/google/renameio/v2"
	"github.com/urfave/cli/v2"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/provisioning/adminapi"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

func peerCommand() *cli.Command {
	return group("peer", "plain WireGuard devices, which run none of our software",
		peerAddCommand(),
		&cli.Command{
			Name: "list", Usage: "list all plain devices", Flags: []cli.Flag{dirFlag(), jsonFlag()},
			Action: func(c *cli.Context) error {
				if _, err := args(c); err != nil {
					return err
				}
				all, err := adminClient(c).Nodes(c.Context)
				if err != nil {
					return offline(c, err)
				}
				devices := []adminapi.Node{}
				for _, n := range all {
					if n.Kind == string(wire.Unmanaged) {
						devices = append(devices, n)
					}
				}
				return show(c, devices, func(w io.Writer) error {
					var rows [][]string
					for _, n := range devices {
						rows = append(rows, []string{n.Site, n.Name, n.Address.String(), n.State, n.PublicKey, timeOf(n.Enrolled)})
					}
					return ui.Table(w, []string{"SITE", "DEVICE", "ADDRESS", "STATE", "PUBLIC KEY", "ADDED"}, rows)
				})
			},
		},
		&cli.Command{
			Name: "config", Usage: "print the file of a plain device as it has to be now, without its private key", ArgsUsage: "NAME",
			Description: `For when the plan has changed: take the [Peer] parts over into the file that the device has.`,
			Flags:       []cli.Flag{dirFlag(), jsonFlag(), peerSiteFlag(), formatFlag(), outFlag()},
			Action:      peerConfig,
		},
		&cli.Command{
			Name: "remove", Usage: "take a plain device out of the network: every peer drops its key within seconds", ArgsUsage: "NAME",
			Flags: []cli.Flag{dirFlag(), peerSiteFlag()},
			Action: func(c *cli.Context) error {
				a, err := args(c, "NAME")
				if err != nil {
					return err
				}
				return offline(c, adminClient(c).RemovePeer(c.Context, c.String("site"), a[0]))
			},
		},
	)
}

func peerSiteFlag() cli.Flag {
	return &cli.StringFlag{Name: "site", Usage: "`NAME` of its site, if several sites have a device of that name"}
}

func formatFlag() cli.Flag {
	return &cli.StringFlag{Name: "format", Value: formatWGQuick, Usage: "`FORMAT` of the file: " + formatWGQuick + " or " + formatFritzBox}
}

func outFlag() cli.Flag {
	return &cli.StringFlag{Name: "out", TakesFile: true, Usage: "write the file to `FILE`, which only its owner may read and which must not be there yet"}
}

func peerAddCommand() *cli.Command {
	return &cli.Command{
		Name: "add", Usage: "add a plain WireGuard device and print its file", ArgsUsage: "NAME",
		Description: `For what speaks WireGuard and cannot run our software: a phone, a router, a FRITZ!Box, a computer with wg-quick. It may use what its site
may use ("towpath allow"), and nothing else: the gateways at the other end see to that. It gets no changes by itself: see "towpath peer config".

The private key is made here, is in what this prints, and is kept nowhere else. With --key the device has made its own, and the file has a
line to fill in.

Examples:
  towpath peer add reading-room-2 --site center --qr
  towpath peer add praxis-sued --site praxis-sued --format fritzbox --out fritzbox.conf`,
		Flags: []cli.Flag{
			dirFlag(), jsonFlag(),
			&cli.StringFlag{Name: "site", Required: true, Usage: "`NAME` of the site that it is of"},
			&cli.StringFlag{Name: "key", Usage: "the device's own public `KEY`, in base64; made here if not given"},
			&cli.StringFlag{Name: "address", Usage: "overlay `ADDRESS` that it will have; chosen if not given"},
			formatFlag(), outFlag(),
			&cli.BoolFlag{Name: "qr", Usage: "draw the file as a QR code for the WireGuard app too"},
			qrPNGFlag(),
		},
		Action: peerAdd,
	}
}

func peerAdd(c *cli.Context) error {
	a, err := args(c, "NAME")
	if err != nil {
		return err
	}
	if err := checkFormat(c); err != nil {
		return err
	}
	address, err := addressFlag(c)
	if err != nil {
		return err
	}
	if c.String("format") == formatFritzBox && address.Is6() {
		return errFritzBoxIPv6
	}
	key, public, err := peerKey(c)
	if err != nil {
		return err
	}
	out, err := openOut(c)
	if err != nil {
		return err
	}
	defer out.drop()
	client := adminClient(c)
	p, err := client.AddPeer(c.Context, adminapi.NewPeer{Site: c.String("site"), Name: a[0], PublicKey: public.String(), Address: address})
	if err != nil {
		return offline(c, err)
	}
	if c.String("format") == formatFritzBox && p.Address.Is6() {
		return errors.Join(errFritzBoxIPv6, client.RemovePeer(c.Context, "", p.ID))
	}
	f := peerFile{PeerConfig: p, key: key}
	if err := showPeer(c, f, out); err != nil {
		return ui.Hint(err, "the device is in the network, but its private key is lost: \"towpath peer remove %s\", and try again", p.Name)
	}
	if err := peerQR(c, f); err != nil {
		return ui.Hint(err, "the file is good and the device is in the network: only the QR code is missing")
	}
	return nil
}

// peerQR draws what the WireGuard apps scan.
func peerQR(c *cli.Context, f peerFile) error {
	text := f.wgQuick(false)
	if c.Bool("qr") && !c.Bool("json") {
		if err := drawQR(c.App.Writer, text); err != nil {
			return err
		}
	}
	if path := c.String("qr-png"); path != "" {
		return writeQRPNG(path, text)
	}
	return nil
}

// errFritzBoxIPv6 is what FRITZ!OS would say if it gave reasons.
var errFritzBoxIPv6 = ui.Usagef("give an IPv4 --address, or the site a range of IPv4 (\"towpath plan allocate SITE --purpose workstation\")",
	"a FRITZ!Box imports IPv4 addresses only")

// checkFormat refuses flags that lead nowhere together.
func checkFormat(c *cli.Context) error {
	f := c.String("format")
	if f != formatWGQuick && f != formatFritzBox {
		return ui.Usagef(formatWGQuick+" or "+formatFritzBox, "there is no format %q", f)
	}
	qr := c.Bool("qr") || c.String("qr-png") != ""
	switch {
	case qr && f == formatFritzBox:
		return ui.Usagef("leave one of them out", "a FRITZ!Box reads a file, not a QR code")
	case qr && c.IsSet("key"):
		return ui.Usagef("leave one of them out", "with --key the private key is not known here, and a QR code without it is of no use")
	}
	return nil
}

// peerKey makes a key, or takes the public one of the device.
func peerKey(c *cli.Context) (wgkey.PrivateKey, wgkey.PublicKey, error) {
	if c.IsSet("key") {
		public, err := wgkey.ParsePublicKey(c.String("key"))
		if err != nil {
			return wgkey.PrivateKey{}, public, ui.Usagef("a key has 44 characters and ends with =; give the public one", "--key is no WireGuard key")
		}
		return wgkey.PrivateKey{}, public, nil
	}
	key, err := wgkey.NewPrivateKey()
	if err != nil {
		return key, wgkey.PublicKey{}, err
	}
	public, err := key.Public()
	return key, public, err
}

func peerConfig(c *cli.Context) error {
	a, err := args(c, "NAME")
	if err != nil {
		return err
	}
	if err := checkFormat(c); err != nil {
		return err
	}
	out, err := openOut(c)
	if err != nil {
		return err
	}
	defer out.drop()
	p, err := adminClient(c).PeerConfig(c.Context, c.String("site"), a[0])
	if err != nil {
		return offline(c, err)
	}
	if c.String("format") == formatFritzBox && p.Address.Is6() {
		return errFritzBoxIPv6
	}
	return showPeer(c, peerFile{PeerConfig: p}, out)
}

type peerJSON struct {
	adminapi.PeerConfig

	File string `json:"file,omitempty"`
}

// showPeer writes the file, and what is to be said about it beside: in a file of its own for the device nobody would read it.
func showPeer(c *cli.Context, f peerFile, out *outFile) error {
	text, notes := f.wgQuick(true), f.notes()
	if c.String("format") == formatFritzBox {
		text, notes = f.fritzBox(), append(notes, f.fritzBoxNotes()...)
	}
	for _, n := range notes {
		fmt.Fprintln(os.Stderr, n)
	}
	if out != nil {
		if err := out.write(text); err != nil {
			return err
		}
	}
	v := peerJSON{PeerConfig: f.PeerConfig, File: text}
	if out != nil {
		v.File = ""
	}
	return show(c, v, func(w io.Writer) error {
		if out != nil {
			_, err := fmt.Fprintf(w, "%s of site %s has the address %v. Its file is %s.\n", f.Name, f.Site, f.Address, out.path)
			return err
		}
		_, err := io.WriteString(w, text)
		return err
	})
}

// outFile is the file of --out, opened before anything is changed.
type outFile struct {
	path string
	f    *renameio.PendingFile
}

// openOut returns nil if there is no --out.
func openOut(c *cli.Context) (*outFile, error) {
	path := c.String("out")
	if path == "" {
		return nil, nil //nolint:nilnil // no file is one of the choices
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			err = fmt.Errorf("%s is there already", path)
		}
		return nil, &ui.Error{Err: err, Hint: "name another --out: what is in it may be the only copy of a key", Code: ui.ExitUsage}
	}
	f, err := renameio.NewPendingFile(path, renameio.WithStaticPermissions(0o600))
	if err != nil {
		return nil, &ui.Error{Err: fmt.Errorf("--out: %w", err), Hint: "name a file in a directory that is there and that you may write to", Code: ui.ExitUsage}
	}
	return &outFile{path: path, f: f}, nil
}

func (o *outFile) write(text string) error {
	if _, err := io.WriteString(o.f, text); err != nil {
		return fmt.Errorf("write %s: %w", o.path, err)
	}
	if err := o.f.CloseAtomicallyReplace(); err != nil {
		return fmt.Errorf("write %s: %w", o.path, err)
	}
	return nil
}

// drop removes what was not written.
func (o *outFile) drop() {
	if o != nil {
		_ = o.f.Cleanup()
	}
}
