package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
)

const (
	demoSlices    = 24
	demoUpTimeout = 40 * time.Second
	demoTimeout   = 2 * time.Minute // for each step of the proof
)

func demoCommand() *cli.Command {
	return &cli.Command{
		Name: "demo", Usage: "show the whole way on this machine: coordinator, center, two clinics, real tunnels, DICOM and HL7",
		Description: `Starts everything from this one program on the loopback addresses of this machine, without root, and enrolls the clinics with real
tokens. Then it sends a synthetic CT study and an HL7 order through clinic A, a result back, proves by digest that what arrived is what was sent,
shows that clinic A cannot reach clinic B, and stays up so that you can send files of your own, until Ctrl-C.`,
		OnUsageError: usageError,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "once", Usage: "end after the proof, with exit code 0 if all of it held and 1 if not"},
			&cli.StringFlag{Name: "pacs", Usage: "send to this real PACS, as `HOST:PORT/AE`, instead of the built-in archive"},
			&cli.IntFlag{Name: "slices", Value: demoSlices, Usage: "`NUMBER` of images in the synthetic study"},
			&cli.BoolFlag{Name: "keep", Usage: "keep the demo's directory (logs, archive, states) afterwards"},
		},
		Action: func(c *cli.Context) error {
			if _, err := args(c); err != nil {
				return err
			}
			if n := c.Int("slices"); n < 1 || n > 2000 {
				return ui.Usagef("between 1 and 2000", "--slices %d makes no sense", n)
			}
			pacs, err := parsePACS(c.String("pacs"))
			if err != nil {
				return err
			}
			return runDemo(c.Context, demoOptions{
				once: c.Bool("once"), keep: c.Bool("keep"), slices: c.Int("slices"), pacs: pacs, out: c.App.Writer, terminal: terminal(os.Stdout),
			})
		},
	}
}

// externalPACS is a PACS that is not ours; the zero value means none.
type externalPACS struct{ target, ae string }

func parsePACS(s string) (externalPACS, error) {
	if s == "" {
		return externalPACS{}, nil
	}
	target, ae, ok := strings.Cut(s, "/")
	if !ok || ae == "" || !strings.Contains(target, ":") {
		return externalPACS{}, ui.Usagef("such as 127.0.0.1:4242/ORTHANC", "--pacs %q is not HOST:PORT/AE", s)
	}
	return externalPACS{target: target, ae: ae}, nil
}

type demoOptions struct {
	once, keep bool
	slices     int
	pacs       externalPACS
	out        io.Writer
	terminal   bool
}

// demo is everything that runs.
type demo struct {
	demoOptions
	dir      string
	children *children
	plan     demoPlan
	peers    *demoPeers
}

func runDemo(ctx context.Context, o demoOptions) (err error) {
	dir, err := os.MkdirTemp("", "towpath-demo-")
	if err != nil {
		return fmt.Errorf("make the demo's directory: %w", err)
	}
	d := &demo{demoOptions: o, dir: dir}
	defer func() {
		if o.keep || err != nil {
			fmt.Fprintf(o.out, "\nLogs, archive and states are in %s\n", dir)
			return
		}
		_ = os.RemoveAll(dir)
	}()
	if d.plan, err = planDemo(); err != nil {
		return err
	}
	if d.children, err = newChildren(dir); err != nil {
		return err
	}
	defer d.children.stop()
	if d.peers, err = startDemoPeers(ctx, d); err != nil {
		return err
	}
	defer d.peers.stop()

	began := time.Now()
	d.say("Towpath demo: everything on this machine's loopback, without root, in %s\n", dir)
	if err := d.bringUp(ctx); err != nil {
		return err
	}
	d.say("Up in %.1f s.\n", time.Since(began).Seconds())
	d.sayWhere()
	if err := d.prove(ctx); err != nil {
		return err
	}
	d.say("\nAll of it held, %.1f s after the start.", time.Since(began).Seconds())
	if o.once {
		return nil
	}
	d.say("\nStill up. Send files of your own, for example:\n")
	d.say("  storescu -aec %s %s %d FILE.dcm", d.ae(), d.plan.clinicA, d.plan.dicomPort)
	d.say("  %s dicom send --called %s %s:%d FILE.dcm", os.Args[0], d.ae(), d.plan.clinicA, d.plan.dicomPort)
	d.say("  %s hl7 send %s:%d FILE.hl7", os.Args[0], d.plan.clinicA, d.plan.hl7Port)
	d.say("  %s status --state %s", os.Args[0], d.state(clinicA))
	d.say("  %s node list --dir %s", os.Args[0], d.coordinatorDir())
	d.say("\nCtrl-C ends everything.")
	return d.stayUp(ctx)
}

// stayUp reports what arrives until the person has seen enough.
func (d *demo) stayUp(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			d.say("\nStopping.")
			return nil
		case o := <-d.peers.objects:
			d.say("%s  arrived at the archive: %s, SHA-256 %s", time.Now().Format(time.TimeOnly), ui.Bytes(o.Size), shortDigest(o.SHA256))
		case m := <-d.peers.orders:
			d.say("%s  arrived at the center's HIS: %d bytes, SHA-256 %s", time.Now().Format(time.TimeOnly), m.Size, shortDigest(m.SHA256))
		case m := <-d.peers.results:
			d.say("%s  arrived in clinic A's practice system: %d bytes, SHA-256 %s", time.Now().Format(time.TimeOnly), m.Size, shortDigest(m.SHA256))
		case <-time.After(time.Second):
			if err := d.children.failed(); err != nil {
				return err
			}
		}
	}
}

// Names of the demo's sites.
const (
	centerSite = "center"
	clinicA    = "clinic-a"
	clinicB    = "clinic-b"
)

func (d *demo) coordinatorDir() string   { return filepath.Join(d.dir, "coordinator") }
func (d *demo) state(site string) string { return filepath.Join(d.dir, site) }
func (d *demo) ae() string {
	if d.pacs.ae != "" {
		return d.pacs.ae
	}
	return "PACS"
}

// bringUp types the commands that an operator and two clinics would type.
func (d *demo) bringUp(ctx context.Context) error {
	p, admin := d.plan, []string{"--dir", d.coordinatorDir()}
	op := func(args ...string) error {
		_, err := d.children.command(ctx, nil, append(args, admin...)...)
		return err
	}
	if err := op("coordinator", "init", "--host", "127.0.0.1", "--bind", "127.0.0.1", "--http-port", num(p.httpPort), "--hub-port", num(p.hubPort),
		"--pool", p.pool.String(), "--with-center", centerSite, "--center-port", num(p.centerPort),
		"--center-lan", p.center.String(), "--center-backend", "netstack"); err != nil {
		return err
	}
	if err := d.children.run("coordinator", append([]string{"coordinator", "serve", "--verbose"}, admin...)...); err != nil {
		return err
	}
	if err := d.wait(ctx, "the coordinator", func() error {
		_, err := d.children.command(ctx, nil, append([]string{"site", "list"}, admin...)...)
		return err
	}); err != nil {
		return err
	}
	d.say("  coordinator and center   one process: enrolment TCP %d, hub UDP %d, center's gateway UDP %d", p.httpPort, p.hubPort, p.centerPort)
	for _, args := range [][]string{
		{"service", "add", "pacs", "--site", centerSite, "--dicom", "--ae-title", d.ae(), "--target", d.peers.archiveTarget},
		{"service", "add", "orders", "--site", centerSite, "--hl7", "--target", d.peers.hisTarget},
		{"site", "add", clinicA, "--kind", "clinic", "--title", "Clinic A"},
		{"site", "add", clinicB, "--kind", "clinic", "--title", "Clinic B"},
		{"service", "add", "results-a", "--site", clinicA, "--hl7", "--target", d.peers.practiceTarget},
		{"allow", clinicA, "pacs", "--port", num(p.dicomPort)},
		{"allow", clinicA, "orders", "--port", num(p.hl7Port)},
		{"allow", clinicB, "pacs", "--port", num(p.dicomPort)},
		{"allow", clinicB, "orders", "--port", num(p.hl7Port)},
		{"allow", centerSite, "results-a", "--port", num(p.hl7Port)},
	} {
		if err := op(args...); err != nil {
			return err
		}
	}
	for site, lanAddr := range map[string]netip.Addr{clinicA: p.clinicA, clinicB: p.clinicB} {
		if err := d.bringUpClinic(ctx, site, lanAddr); err != nil {
			return err
		}
	}
	return d.waitTunnels(ctx)
}

func (d *demo) bringUpClinic(ctx context.Context, site string, lanAddr netip.Addr) error {
	var tok struct {
		Text string `json:"text"`
	}
	if err := d.children.json(ctx, &tok, "token", "new", "--site", site, "--dir", d.coordinatorDir()); err != nil {
		return err
	}
	var box enrolledJSON
	if err := d.children.json(ctx, &box, "enroll", tok.Text, "--state", d.state(site)); err != nil {
		return err
	}
	if err := d.children.run(site, "gateway", "--verbose", "--state", d.state(site), "--lan", lanAddr.String(), "--backend", "netstack"); err != nil {
		return err
	}
	d.say("  %-24s enrolled by token as %s, overlay address %s", site, box.Node, box.Address)
	return nil
}

// wait tries until it works, a child has died or patience is over.
func (d *demo) wait(ctx context.Context, what string, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, demoUpTimeout)
	defer cancel()
	for {
		err := try()
		if err == nil {
			return nil
		}
		if dead := d.children.failed(); dead != nil {
			return dead
		}
		select {
		case <-ctx.Done():
			if errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
				return fmt.Errorf("%s did not come up in %s: %w", what, demoUpTimeout, err)
			}
			return context.Canceled
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (d *demo) say(format string, a ...any) { fmt.Fprintf(d.out, format+"\n", a...) }

func (d *demo) sayWhere() {
	p := d.plan
	d.say("Clinic A   DICOM %s:%d, AE title %s    HL7 %s:%d", p.clinicA, p.dicomPort, d.ae(), p.clinicA, p.hl7Port)
	d.say("Clinic B   DICOM %s:%d, AE title %s    HL7 %s:%d", p.clinicB, p.dicomPort, d.ae(), p.clinicB, p.hl7Port)
	d.say("Center     results to clinic A: HL7 %s:%d", p.center, p.hl7Port)
}

func num(n uint16) string { return strconv.Itoa(int(n)) }
