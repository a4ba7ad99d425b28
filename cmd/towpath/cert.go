package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"github.com/urfave/cli/v2"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/gateway/localapi"
	"github.com/towpath/towpath/gateway/sitecert"
)

func certCommand() *cli.Command {
	return group("cert", "certificates for the devices on this box's LAN, of the site's own authority",
		certIssueCommand(), certListCommand(), certRevokeCommand(),
		&cli.Command{
			Name: "ca", Usage: "show the authority's certificate (PEM), which devices have to trust", Flags: []cli.Flag{stateFlag()},
			Action: func(c *cli.Context) error {
				l, err := lanOf(c)
				if err != nil {
					return err
				}
				if l.Authority == "" {
					return ui.Hint(errors.New("this box has no authority yet"), "it is made with the first \"towpath tls set SITE\" at the center, or the first \"towpath cert issue\" here")
				}
				_, err = fmt.Fprint(c.App.Writer, l.Authority)
				return err
			},
		},
		certBackupCommand(), certRestoreCommand())
}

// lanOf asks the gateway of this box.
func lanOf(c *cli.Context) (localapi.LAN, error) {
	if _, err := args(c); err != nil {
		return localapi.LAN{}, err
	}
	l, err := localClient(c).LAN(c.Context)
	return l, notRunning(c, err)
}

func certIssueCommand() *cli.Command {
	return &cli.Command{
		Name: "issue", Usage: "make a key and a certificate for a device", ArgsUsage: " ",
		Description: `Writes NAME.key.pem, NAME.cert.pem and ca.pem to --out and, with a password, NAME.p12, which holds all three. The key is nowhere else: put it on
the device and delete the files. Issuing again renews: the former certificate stays good until it ends or is revoked.

A device that only sends needs no --name. One that is connected to, such as an archive, needs the name or address it is reached at.

Example:
  towpath cert issue --device CT1 --out /media/usb --password-file pass.txt`,
		Flags: []cli.Flag{
			stateFlag(), jsonFlag(),
			&cli.StringFlag{Name: "device", Required: true, Usage: "`NAME` of the device: its AE title, or its host name"},
			&cli.StringSliceFlag{Name: "name", Usage: "host `NAME` or address at which it is reached; may be repeated"},
			&cli.StringFlag{Name: "out", Value: ".", Usage: "`DIR` for the files"},
			&cli.IntFlag{Name: "days", Value: int(sitecert.DeviceLife / (24 * time.Hour)), Usage: "how many `DAYS` it is good"},
			&cli.StringFlag{Name: "password-file", Usage: "`FILE` whose first line is the password of the PKCS#12 file"},
			&cli.BoolFlag{Name: "old-p12", Usage: "make the PKCS#12 file for devices of before 2020 (3DES, SHA-1)"},
		},
		Action: func(c *cli.Context) error {
			if _, err := args(c); err != nil {
				return err
			}
			password, err := firstLine(c.String("password-file"))
			if err != nil {
				return err
			}
			if d := c.Int("days"); d < 1 || d > int(sitecert.MaxDeviceLife/day) {
				return ui.Usagef(fmt.Sprintf("between 1 and %d", int(sitecert.MaxDeviceLife/day)), "--days %d makes no sense", d)
			}
			b, err := localClient(c).Issue(c.Context, sitecert.Request{
				Device: c.String("device"), Names: c.StringSlice("name"), Life: time.Duration(c.Int("days")) * day, Password: password, OldP12: c.Bool("old-p12"),
			})
			if err != nil {
				return notRunning(c, err)
			}
			if err := writeBundle(c.String("out"), b); err != nil {
				return err
			}
			return show(c, b.Issued, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "Issued %s to %s, good until %s, in %s. Put the files on the device and delete them here.\n",
					b.Issued.Serial, b.Issued.Device, b.Issued.Expires.Local().Format(time.DateOnly), c.String("out"))
				return err
			})
		},
	}
}

// firstLine reads a password; an empty path is none.
func firstLine(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	line, _, _ := strings.Cut(string(b), "\n")
	if line = strings.TrimSuffix(line, "\r"); line == "" {
		return "", ui.Usagef("write the password in its first line", "%s has no password", path)
	}
	return line, nil
}

func writeBundle(dir string, b sitecert.Bundle) error {
	name := strings.Map(func(r rune) rune {
		if strings.ContainsRune(`/\:*?"<>|. `, r) {
			return '_'
		}
		return r
	}, b.Issued.Device)
	for _, f := range []struct {
		name string
		text []byte
	}{
		{name + ".key.pem", []byte(b.Key)}, {name + ".cert.pem", []byte(b.Certificate)}, {"ca.pem", []byte(b.Authority)}, {name + ".p12", b.PKCS12},
	} {
		if len(f.text) == 0 {
			continue
		}
		if err := renameio.WriteFile(filepath.Join(dir, f.name), f.text, 0o600); err != nil {
			return fmt.Errorf("write %s: %w", f.name, err)
		}
	}
	return nil
}

func certListCommand() *cli.Command {
	return &cli.Command{
		Name: "list", Usage: "list the certificates that were issued", Flags: []cli.Flag{stateFlag(), jsonFlag()},
		Action: func(c *cli.Context) error {
			l, err := lanOf(c)
			if err != nil {
				return err
			}
			return show(c, l.Issued, func(w io.Writer) error {
				var rows [][]string
				for _, i := range l.Issued {
					rows = append(rows, []string{i.Device, strings.Join(i.Names, ", "), i.Serial, i.Issued.Local().Format(time.DateOnly), certState(i, time.Now())})
				}
				return ui.Table(w, []string{"DEVICE", "NAMES", "SERIAL", "ISSUED", "GOOD UNTIL"}, rows)
			})
		},
	}
}

func certState(i sitecert.Issued, now time.Time) string {
	until := i.Expires.Local().Format(time.DateOnly)
	switch {
	case !i.Revoked.IsZero():
		return "revoked " + i.Revoked.Local().Format(time.DateOnly)
	case now.After(i.Expires):
		return until + ", over"
	}
	return until + ", in " + ui.For(now, i.Expires)
}

func certRevokeCommand() *cli.Command {
	return &cli.Command{
		Name: "revoke", Usage: "stop taking a certificate, from the next connection on", ArgsUsage: "SERIAL", Flags: []cli.Flag{stateFlag()},
		Action: func(c *cli.Context) error {
			a, err := args(c, "SERIAL")
			if err != nil {
				return err
			}
			err = localClient(c).Revoke(c.Context, a[0])
			if errors.Is(err, localapi.ErrNoCertificate) {
				return ui.Hint(err, "\"towpath cert list\" shows those there are; for others, \"towpath tls revoke\" at the center")
			}
			return notRunning(c, err)
		},
	}
}

func certBackupCommand() *cli.Command {
	return &cli.Command{
		Name: "backup", Usage: "write the authority and its key to a file, under a passphrase", ArgsUsage: "FILE",
		Description: `A box that takes the place of this one is trusted by the same devices once it has this file: keep it and the passphrase apart, and off the box.`,
		Flags:       []cli.Flag{stateFlag(), passphraseFlag()},
		Action: func(c *cli.Context) error {
			a, err := args(c, "FILE")
			if err != nil {
				return err
			}
			pass, err := firstLine(c.String("passphrase-file"))
			if err != nil {
				return err
			}
			b, err := localClient(c).BackupAuthority(c.Context, pass)
			if err != nil {
				return notRunning(c, err)
			}
			if err := renameio.WriteFile(a[0], b, 0o600); err != nil {
				return fmt.Errorf("write the backup: %w", err)
			}
			return nil
		},
	}
}

func passphraseFlag() cli.Flag {
	return &cli.StringFlag{Name: "passphrase-file", Required: true, Usage: "`FILE` whose first line is the passphrase, of 12 characters at least"}
}

func certRestoreCommand() *cli.Command {
	return &cli.Command{
		Name: "restore", Usage: "make the authority of a backup this box's own", ArgsUsage: "FILE",
		Description: `For a box that took the place of another. What this box's former authority has issued is not taken any more.`,
		Flags:       []cli.Flag{stateFlag(), passphraseFlag()},
		Action: func(c *cli.Context) error {
			a, err := args(c, "FILE")
			if err != nil {
				return err
			}
			pass, err := firstLine(c.String("passphrase-file"))
			if err != nil {
				return err
			}
			b, err := os.ReadFile(a[0])
			if err != nil {
				return fmt.Errorf("read the backup: %w", err)
			}
			return notRunning(c, localClient(c).RestoreAuthority(c.Context, b, pass))
		},
	}
}
