package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"time"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/gateway/lan"
	"github.com/towpath/towpath/gateway/localapi"
	"github.com/towpath/towpath/provisioning/prove"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/proxy/dicom"
	"github.com/towpath/towpath/proxy/dicom/phantom"
	"github.com/towpath/towpath/proxy/hl7"
)

// errNotHeld ends the demo with exit code 1.
var errNotHeld = errors.New("the proof did not hold")

// waitTunnels waits until every gateway has applied its plan and shaken hands.
func (d *demo) waitTunnels(ctx context.Context) error {
	for site, dir := range map[string]string{centerSite: d.coordinatorDir() + "/" + centerDir, clinicA: d.state(clinicA), clinicB: d.state(clinicB)} {
		if err := d.wait(ctx, "the gateway of "+site, func() error {
			var s localapi.Status
			if err := d.children.json(ctx, &s, "status", "--state", dir); err != nil {
				return err
			}
			return ready(s, site)
		}); err != nil {
			return err
		}
	}
	return nil
}

func ready(s localapi.Status, site string) error {
	if !s.Coordinator.Connected || s.Coordinator.Applied < s.Coordinator.Generation {
		return fmt.Errorf("applied generation %d of %d; coordinator: %s", s.Coordinator.Applied, s.Coordinator.Generation, s.Coordinator.LastError)
	}
	if want := map[string]int{centerSite: 3, clinicA: 3, clinicB: 2}[site]; len(s.Services) < want {
		return fmt.Errorf("%d of %d services listen", len(s.Services), want)
	}
	for _, p := range s.Tunnel.Peers {
		if p.LastHandshake.IsZero() {
			return fmt.Errorf("no handshake with %s yet", p.Site)
		}
	}
	return nil
}

// prove sends, compares and tries what must not work.
func (d *demo) prove(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, demoTimeout, fmt.Errorf("%w: not everything arrived in %s", errNotHeld, demoTimeout))
	defer cancel()
	for _, step := range []func(context.Context) error{d.proveStudy, d.proveOrder, d.proveResult, d.proveIsolation} {
		if err := step(ctx); err != nil {
			if cause := context.Cause(ctx); cause != nil && errors.Is(err, context.DeadlineExceeded) {
				return cause
			}
			return err
		}
	}
	return nil
}

type sentObject struct {
	uid    string
	sha256 [sha256.Size]byte
	size   int64
}

func (d *demo) proveStudy(ctx context.Context) error {
	d.say("\nDICOM: a synthetic CT study of %d images through clinic A", d.slices)
	objects, sent, err := d.makeStudy()
	if err != nil {
		return err
	}
	bar := ui.NewProgress(d.out, d.terminal, "  sending", len(objects))
	target := netip.AddrPortFrom(d.plan.clinicA, d.plan.dicomPort).String()
	report, err := dicom.Store(ctx, dicom.StoreConfig{Network: &lan.Network{}, Target: target, CallingAE: "DEMO_CT", CalledAE: d.ae()},
		objects, func(e dicom.StoreEvent) { bar.Set(e.Index+1, "") })
	if err != nil {
		return fmt.Errorf("send the study: %w", err)
	}
	d.say("  clinic A's box has all %d safe on its disk after %s (%s)", report.Sent, report.Duration.Round(time.Millisecond), ui.Bytes(report.Bytes))
	if d.pacs.target != "" {
		return d.proveExternal(ctx, len(sent))
	}
	return d.compareStudy(ctx, sent)
}

func (d *demo) makeStudy() ([]dicom.Object, []sentObject, error) {
	var objects []dicom.Object
	var sent []sentObject
	seed := uint64(time.Now().UnixNano()) // a new study each time, so that a real PACS does not know it already
	for s, err := range phantom.Study(phantom.Options{Slices: d.slices, Seed: seed, At: time.Now()}) {
		if err != nil {
			return nil, nil, fmt.Errorf("make the study: %w", err)
		}
		o := dicom.BytesObject(s.Name, s.Bytes)
		sum, size, err := digestObject(o)
		if err != nil {
			return nil, nil, err
		}
		objects, sent = append(objects, o), append(sent, sentObject{uid: s.SOPInstance, sha256: sum, size: size})
	}
	return objects, sent, nil
}

func digestObject(o dicom.Object) (sum [sha256.Size]byte, size int64, err error) {
	f, err := o.Open()
	if err != nil {
		return sum, 0, fmt.Errorf("open an object: %w", err)
	}
	defer func() { _ = f.Close() }()
	_, dataset, err := dicom.ReadPart10(f)
	if err != nil {
		return sum, 0, fmt.Errorf("read an object: %w", err)
	}
	h := sha256.New()
	if size, err = io.Copy(h, dataset); err != nil {
		return sum, 0, fmt.Errorf("read an object: %w", err)
	}
	return [sha256.Size]byte(h.Sum(nil)), size, nil
}

// compareStudy waits for the archive and compares what it wrote to its disk, read back from there, with what was sent.
func (d *demo) compareStudy(ctx context.Context, sent []sentObject) error {
	bar := ui.NewProgress(d.out, d.terminal, "  at the archive", len(sent))
	got := make(map[string]dicom.StoredObject, len(sent))
	for len(got) < len(sent) {
		select {
		case o := <-d.peers.objects:
			got[o.SOPInstance] = o
			bar.Set(len(got), "")
		case <-ctx.Done():
			return fmt.Errorf("wait for the archive: %w", ctx.Err())
		}
	}
	var rows [][]string
	equal := 0
	for i, s := range sent {
		at := got[s.uid]
		sum, size, err := dicom.DigestDataset(d.dir + "/archive/" + at.Path)
		verdict := "equal"
		if err != nil || sum != s.sha256 || size != s.size {
			verdict = "DIFFERENT"
		} else {
			equal++
		}
		rows = append(rows, []string{strconv.Itoa(i + 1), ui.Bytes(s.size), shortDigest(s.sha256), shortDigest(sum), verdict})
	}
	if err := ui.Table(d.out, []string{"  OBJECT", "SIZE", "SENT SHA-256", "ARRIVED SHA-256", ""}, indent(rows)); err != nil {
		return err
	}
	d.say("  %d of %d objects arrived bit-identical", equal, len(sent))
	if equal != len(sent) {
		return errNotHeld
	}
	return nil
}

// proveExternal can see only the answers of a PACS that is not ours: the queue forgets an object when the PACS has said success.
func (d *demo) proveExternal(ctx context.Context, n int) error {
	bar := ui.NewProgress(d.out, d.terminal, "  taken by the PACS", n)
	for {
		var s localapi.Status
		if err := d.children.json(ctx, &s, "status", "--state", d.state(clinicA)); err != nil {
			return err
		}
		for _, q := range s.Queues {
			if q.Queue != "dicom.pacs" {
				continue
			}
			bar.Set(int(q.Delivered), "")
			if q.Parked > 0 {
				return fmt.Errorf("%w: the PACS refused %d objects: %s", errNotHeld, q.Parked, q.LastError)
			}
			if q.Delivered >= uint64(n) {
				d.say("  the PACS %s at %s answered success for all %d objects", d.pacs.ae, d.pacs.target, n)
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the PACS: %w", ctx.Err())
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (d *demo) proveOrder(ctx context.Context) error {
	d.say("\nHL7: an order (ORM^O01) through clinic A to the center's HIS")
	msg := hl7.SampleOrder(time.Now(), "DEMO-ORDER-1", hl7.Parties{
		SendingApplication: "PRAXIS", SendingFacility: "CLINIC_A", ReceivingApplication: "HIS", ReceivingFacility: "CENTER",
	})
	return d.proveMessage(ctx, msg, netip.AddrPortFrom(d.plan.clinicA, d.plan.hl7Port), d.peers.orders)
}

func (d *demo) proveResult(ctx context.Context) error {
	d.say("\nHL7: a result (ORU^R01) from the center back into clinic A's practice system")
	msg := hl7.SampleResult(time.Now(), "DEMO-RESULT-1", hl7.Parties{
		SendingApplication: "HIS", SendingFacility: "CENTER", ReceivingApplication: "PRAXIS", ReceivingFacility: "CLINIC_A",
	})
	return d.proveMessage(ctx, msg, netip.AddrPortFrom(d.plan.center, d.plan.hl7Port), d.peers.results)
}

func (d *demo) proveMessage(ctx context.Context, msg []byte, to netip.AddrPort, from <-chan arrived) error {
	ack, err := hl7.Send(ctx, hl7.SendConfig{Network: &lan.Network{}, Target: to.String()}, msg)
	if err != nil {
		return err
	}
	if !ack.Code.OK() {
		return fmt.Errorf("%w: the message was answered %s %s", errNotHeld, ack.Code, ack.Text)
	}
	d.say("  acknowledged %s by the gateway at %s", ack.Code, to)
	select {
	case m := <-from:
		sent := sha256.Sum256(msg)
		d.say("  sent    SHA-256 %s\n  arrived SHA-256 %s", hex.EncodeToString(sent[:]), hex.EncodeToString(m.SHA256[:]))
		if m.SHA256 != sent {
			return fmt.Errorf("%w: the message was changed on the way", errNotHeld)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the message: %w", ctx.Err())
	}
}

// proveIsolation tries from clinic A to reach clinic B, and looks for clinic B in all that clinic A's box knows.
func (d *demo) proveIsolation(ctx context.Context) error {
	d.say("\nIsolation: clinic A tries to reach clinic B")
	b, err := savedMap(d.state(clinicB))
	if err != nil {
		return err
	}
	for _, port := range []uint16{d.plan.dicomPort, d.plan.hl7Port} {
		var r localapi.ProbeResult
		target := netip.AddrPortFrom(b.Self.Address, port)
		out, err := d.children.command(ctx, []int{ui.ExitDenied}, "probe", target.String(), "--state", d.state(clinicA), "--json")
		if err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			return fmt.Errorf("read the probe's answer: %w", err)
		}
		if r.Reached {
			return fmt.Errorf("%w: clinic A reached clinic B at %s", errNotHeld, target)
		}
		d.say("  towpath probe %s: refused (%s)", target, r.Error)
	}
	a, err := savedMap(d.state(clinicA))
	if err != nil {
		return err
	}
	for _, p := range a.Peers {
		if p.PublicKey == b.Self.PublicKey || p.Site == clinicB {
			return fmt.Errorf("%w: clinic A's plan names clinic B", errNotHeld)
		}
	}
	var cert prove.Certificate
	if err := d.children.json(ctx, &cert, "plan", "prove", "--dir", d.coordinatorDir()); err != nil {
		return fmt.Errorf("%w: %w", errNotHeld, err)
	}
	d.say("  towpath plan prove: %d statements hold over %d ranges, %d grants and the maps of %d nodes", len(cert.Proven),
		cert.Counts.Ranges, cert.Counts.Grants, cert.Counts.Maps)
	d.say("  clinic A's plan has %d peer beside the coordinator (%s); clinic B's key is not in it", len(a.Peers), a.Peers[0].Site)
	return nil
}

// savedMap reads the plan that a box keeps on its disk.
func savedMap(state string) (wire.NetMap, error) {
	var m wire.NetMap
	b, err := os.ReadFile(state + "/netmap.json")
	if err != nil {
		return m, fmt.Errorf("read the plan of a box: %w", err)
	}
	var s wire.Signed
	if err := json.Unmarshal(b, &s); err != nil {
		return m, fmt.Errorf("read the plan of a box: %w", err)
	}
	if err := json.Unmarshal(s.Payload, &m); err != nil {
		return m, fmt.Errorf("read the plan of a box: %w", err)
	}
	return m, nil
}

func shortDigest(sum [sha256.Size]byte) string { return hex.EncodeToString(sum[:8]) + "…" }

func indent(rows [][]string) [][]string {
	for _, r := range rows {
		r[0] = "  " + r[0]
	}
	return rows
}
