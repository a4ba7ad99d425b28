package main

import (
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/gateway/lan"
	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/dicom"
	"github.com/towpath/towpath/proxy/dicom/phantom"
)

func dicomCommand() *cli.Command {
	calling := &cli.StringFlag{Name: "calling", Value: dicom.DefaultCallingAE, Usage: "our own AE `TITLE`"}
	called := &cli.StringFlag{Name: "called", Required: true, Usage: "AE `TITLE` of the device"}
	return group("dicom", "tools for technicians: echo, send, receive, compare",
		&cli.Command{
			Name: "echo", Usage: "ask a device whether it is there and knows us (C-ECHO)", ArgsUsage: "HOST:PORT",
			Flags: []cli.Flag{calling, called, jsonFlag()},
			Action: func(c *cli.Context) error {
				a, err := args(c, "HOST:PORT")
				if err != nil {
					return err
				}
				r, err := dicom.Echo(c.Context, dicom.EchoConfig{Network: &lan.Network{}, Target: a[0], CallingAE: c.String("calling"), CalledAE: c.String("called")})
				if err != nil {
					return err
				}
				return show(c, r, func(w io.Writer) error {
					_, err := fmt.Fprintf(w, "%s answers: connected in %s, associated in %s, echo in %s; software %s, PDUs up to %d bytes\n", c.String("called"),
						r.Connect.Round(time.Microsecond), r.Associate.Round(time.Microsecond), r.Echo.Round(time.Microsecond), r.ImplementationVersion, r.MaxLength)
					return err
				})
			},
		},
		&cli.Command{
			Name: "send", Usage: "send DICOM files (C-STORE), their data sets unchanged", ArgsUsage: "HOST:PORT FILE|FOLDER...",
			Flags: []cli.Flag{calling, called},
			Action: func(c *cli.Context) error {
				if c.NArg() < 2 {
					_, err := args(c, "HOST:PORT", "FILE|FOLDER")
					return err
				}
				objects, err := findObjects(c.Args().Slice()[1:])
				if err != nil {
					return err
				}
				return sendObjects(c, c.Args().First(), objects)
			},
		},
		&cli.Command{
			Name: "listen", Usage: "receive DICOM objects into a folder, until stopped", ArgsUsage: "FOLDER",
			Flags: []cli.Flag{
				&cli.StringFlag{Name: "listen", Value: ":11112", Usage: "`ADDRESS:PORT` to listen at"},
				&cli.StringFlag{Name: "ae-title", Usage: "answer only to this AE `TITLE`"},
			},
			Action: listenDICOM,
		},
		&cli.Command{
			Name: "digest", Usage: "print the SHA-256 of each file's data set, without its file header", ArgsUsage: "FILE...",
			Description: `Two files that hold the same object have the same digest, however their file headers differ. Compare what was sent with what arrived.`,
			Flags:       []cli.Flag{jsonFlag()},
			Action:      digestFiles,
		},
		&cli.Command{
			Name: "phantom", Usage: "write a synthetic CT study to a folder", ArgsUsage: "FOLDER",
			Flags: []cli.Flag{
				&cli.IntFlag{Name: "slices", Value: demoSlices, Usage: "`NUMBER` of images"},
				&cli.Uint64Flag{Name: "seed", Value: 1, Usage: "`NUMBER` that decides everything: the same seed gives the same study"},
			},
			Action: writePhantom,
		},
	)
}

// findObjects walks folders and takes every regular file; what is no DICOM is found out when it is sent.
func findObjects(paths []string) ([]dicom.Object, error) {
	var out []dicom.Object
	for _, p := range paths {
		err := filepath.WalkDir(p, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				out = append(out, dicom.FileObject(path))
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("look for files: %w", err)
		}
	}
	if len(out) == 0 {
		return nil, ui.Usagef("name DICOM files, or folders with some", "there is nothing to send")
	}
	return out, nil
}

func sendObjects(c *cli.Context, target string, objects []dicom.Object) error {
	bar := ui.NewProgress(os.Stderr, terminal(os.Stderr), "sending", len(objects))
	report, err := dicom.Store(c.Context,
		dicom.StoreConfig{Network: &lan.Network{}, Target: target, CallingAE: c.String("calling"), CalledAE: c.String("called")},
		objects, func(e dicom.StoreEvent) {
			bar.Set(e.Index+1, "")
			if e.Err != nil {
				fmt.Fprintf(os.Stderr, "\n%s: %v\n", e.Name, e.Err)
			}
		})
	fmt.Fprintf(c.App.Writer, "%d sent (%d with a remark), %d failed, %s in %s\n",
		report.Sent, report.Warned, report.Failed, ui.Bytes(report.Bytes), report.Duration.Round(time.Millisecond))
	return err
}

func listenDICOM(c *cli.Context) error {
	a, err := args(c, "FOLDER")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(a[0], 0o700); err != nil {
		return fmt.Errorf("make the folder: %w", err)
	}
	log := newLogger(c)
	ar, err := dicom.NewArchive(dicom.ArchiveConfig{Dir: a[0], AETitle: c.String("ae-title"), Log: log, OnStored: func(o dicom.StoredObject) {
		fmt.Fprintf(c.App.Writer, "%s  %s  %s\n", hex.EncodeToString(o.SHA256[:]), ui.Bytes(o.Size), o.Path)
	}})
	if err != nil {
		return err
	}
	defer func() { _ = ar.Close() }()
	l, err := listenTCP(c.Context, c.String("listen"), "--listen")
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "listening at %s; Ctrl-C ends\n", l.Addr())
	return proxy.NewServer(proxy.ServerConfig{Name: "dicom", Listener: l, Handler: ar, Log: log}).Serve(c.Context)
}

func digestFiles(c *cli.Context) error {
	type line struct {
		File   string `json:"file"`
		SHA256 string `json:"sha256,omitempty"`
		Size   int64  `json:"size,omitempty"`
		Error  string `json:"error,omitempty"`
	}
	if c.NArg() == 0 {
		_, err := args(c, "FILE")
		return err
	}
	var all []line
	failed := false
	for _, path := range c.Args().Slice() {
		sum, size, err := dicom.DigestDataset(path)
		l := line{File: path, SHA256: hex.EncodeToString(sum[:]), Size: size}
		if err != nil {
			l, failed = line{File: path, Error: err.Error()}, true
		}
		all = append(all, l)
	}
	err := show(c, all, func(w io.Writer) error {
		for _, l := range all {
			if l.Error != "" {
				fmt.Fprintf(os.Stderr, "%s: %s\n", l.File, l.Error)
				continue
			}
			fmt.Fprintf(w, "%s  %s\n", l.SHA256, l.File)
		}
		return nil
	})
	if err == nil && failed {
		return ui.Silent(ui.ExitFailed)
	}
	return err
}

func writePhantom(c *cli.Context) error {
	a, err := args(c, "FOLDER")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(a[0], 0o700); err != nil {
		return fmt.Errorf("make the folder: %w", err)
	}
	bar := ui.NewProgress(os.Stderr, terminal(os.Stderr), "writing", c.Int("slices"))
	n := 0
	for s, err := range phantom.Study(phantom.Options{Slices: c.Int("slices"), Seed: c.Uint64("seed")}) {
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(a[0], s.Name), s.Bytes, 0o600); err != nil {
			return fmt.Errorf("write a slice: %w", err)
		}
		n++
		bar.Set(n, "")
	}
	return nil
}
