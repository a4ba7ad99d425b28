//go:build lab

package gatewaytest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/towpath/towpath/tunnel/tunneltest/wan"
)

// The services of the lab: LAN port at the clinic, and what stands behind it.
const (
	archivePort = 11112 // storescp, queued
	orthancPort = 11113 // Orthanc, queued
	directPort  = 11114 // storescp, pass-through
	orderPort   = 2575  // the RIS, queued
	resultPort  = 2576  // at the center: the clinic's system
)

// line is a good DSL line: 50 down, 20 up, 10 ms one way, a little jitter and loss.
func line() (up, down wan.Link) {
	common := wan.Link{Delay: 10 * time.Millisecond, Jitter: 2 * time.Millisecond, Loss: 0.0005}
	up, down = common, common
	up.Rate, up.Seed = 20_000_000, 1
	down.Rate, down.Seed = 50_000_000, 2
	return up, down
}

// transcript is the table at the end.
type transcript struct {
	b strings.Builder
	w *tabwriter.Writer
}

func newTranscript() *transcript {
	tr := &transcript{}
	tr.w = tabwriter.NewWriter(&tr.b, 2, 0, 2, ' ', 0)
	fmt.Fprintln(tr.w, "what\tsent\tarrived\tequal\ttime\t")
	return tr
}

func (tr *transcript) row(what string, sent, arrived, equal int, took time.Duration) {
	fmt.Fprintf(tr.w, "%s\t%d\t%d\t%d\t%s\t\n", what, sent, arrived, equal, took.Round(10*time.Millisecond))
}

func (tr *transcript) note(format string, args ...any) {
	fmt.Fprintf(tr.w, format+"\n", args...)
}

// TestLabMainJob is the main job from end to end with real programs on both sides, and the proof that nothing clinical leaves the
// tunnel.
func TestLabMainJob(t *testing.T) {
	whole := t // programs that are started again in a part outlive it
	up, down := line()
	n := NewNetwork(t, up, down)
	tr := newTranscript()
	patient := NewPatient()
	canary := patient.Canary()

	wanClinic, wanCenter := n.Clinic.Capture(t, "wan-clinic", "wan0"), n.Center.Capture(t, "wan-center", "wan0")
	lanClinic := n.Clinic.Capture(t, "lan-clinic", "lan0")

	archive := n.PACS.Storescp(t, "storescp", "ARCHIVE", 11112)
	orthanc := n.PACS.Orthanc(t, "orthanc", "ORTHANC", 4242, 8042)
	ris := n.PACS.Mailbox(t, PACSAddr+":2575")
	kis := n.Modality.Mailbox(t, ModalityAddr+":2575")

	f := NewFleet(t, n)
	for _, site := range []string{"clinic-a", "clinic-b"} {
		f.Admin(t, "site", "add", site, "--kind", "clinic")
	}
	f.Admin(t, "service", "add", "archive", "--site", "center", "--dicom", "--ae-title", "ARCHIVE", "--target", PACSAddr+":11112", "--mode", "queued")
	f.Admin(t, "service", "add", "orthanc", "--site", "center", "--dicom", "--ae-title", "ORTHANC", "--target", PACSAddr+":4242", "--mode", "queued")
	f.Admin(t, "service", "add", "direct", "--site", "center", "--dicom", "--ae-title", "ARCHIVE", "--target", PACSAddr+":11112", "--mode", "pass-through")
	f.Admin(t, "service", "add", "ris", "--site", "center", "--hl7", "--target", PACSAddr+":2575", "--mode", "queued")
	f.Admin(t, "service", "add", "kis-a", "--site", "clinic-a", "--hl7", "--target", ModalityAddr+":2575", "--mode", "queued")
	f.Admin(t, "service", "add", "kis-b", "--site", "clinic-b", "--hl7", "--target", ModalityAddr+":2575", "--mode", "queued")
	for service, port := range map[string]int{"archive": archivePort, "orthanc": orthancPort, "direct": directPort, "ris": orderPort} {
		f.Admin(t, "allow", "clinic-a", service, "--port", fmt.Sprint(port))
	}
	f.Admin(t, "allow", "clinic-b", "archive", "--port", fmt.Sprint(archivePort))
	f.Admin(t, "allow", "center", "kis-a", "--port", fmt.Sprint(resultPort))
	f.Admin(t, "allow", "center", "kis-b", "--port", fmt.Sprint(resultPort+1))

	begin := time.Now()
	a := f.Enroll(t, n.Clinic, "clinic-a")
	for _, p := range []int{archivePort, orthancPort, directPort, orderPort} {
		a.WaitForService(t, p)
	}
	b := f.Enroll(t, n.Clinic2, "clinic-b")
	b.WaitForService(t, archivePort)
	n.Center.waitForPort(t, "the center's gateway", resultPort)

	t.Run("echo", func(t *testing.T) {
		for _, s := range []struct {
			port   int
			called string
		}{{archivePort, "ARCHIVE"}, {orthancPort, "ORTHANC"}, {directPort, "ARCHIVE"}} {
			out := ""
			if !Within(20*time.Second, func() bool {
				var code int
				out, code = n.Modality.Echo(t, ClinicLAN, s.port, s.called)
				return code == 0
			}) {
				t.Errorf("no C-ECHO on port %d:\n%s\n%s", s.port, out, a.Status(t))
			}
		}
		tr.note("token to first C-ECHO through the tunnel: %v", time.Since(begin).Round(10*time.Millisecond))
	})
	t.Run("wrong AE title", func(t *testing.T) {
		for _, port := range []int{archivePort, directPort} {
			out, code := n.Modality.Echo(t, ClinicLAN, port, "NOBODY")
			if code == 0 || !strings.Contains(out, "Called AE Title Not Recognized") {
				t.Errorf("port %d: exit code %d, want a rejection for the called AE title (PS3.8 9.3.4: source 1, reason 7):\n%s", port, code, out)
			}
		}
	})

	study := t.TempDir()
	files, objects, err := patient.WriteStudy(study, 40, 256)
	if err != nil {
		t.Fatal(err)
	}
	expected := map[PACS][]Object{}
	deliver := func(t *testing.T, what string, pacs PACS, want []Object, begin time.Time) {
		t.Helper()
		already := len(expected[pacs])
		expected[pacs] = append(expected[pacs], want...)
		var equal int
		var missing, extra []string
		complete := func() bool {
			if pacs.Count() < len(expected[pacs]) {
				return false
			}
			equal, missing, extra = Compare(expected[pacs], pacs.Objects())
			return len(missing) == 0
		}
		if !Within(2*time.Minute, complete) {
			equal, missing, extra = Compare(expected[pacs], pacs.Objects())
			t.Errorf("%s: not complete; the clinic says:\n%s", what, a.Status(t))
		}
		took := time.Since(begin)
		for _, m := range missing {
			t.Errorf("%s: did not arrive: %s", what, m)
		}
		for _, e := range extra {
			t.Errorf("%s: arrived but was not sent, or arrived twice: %s", what, e)
		}
		tr.row(what, len(want), pacs.Count()-already, equal-already, took)
	}
	t.Run("study", func(t *testing.T) {
		for _, s := range []struct {
			what, called string
			pacs         PACS
			port         int
		}{
			{"canary CT study, storescu, queued, storescp", "ARCHIVE", archive, archivePort},
			{"canary CT study, storescu, queued, Orthanc", "ORTHANC", orthanc, orthancPort},
			{"canary CT study, storescu, pass-through, storescp", "ARCHIVE", archive, directPort},
		} {
			begin := time.Now()
			if out, code := n.Modality.Store(t, ClinicLAN, s.port, s.called, files); code != 0 {
				t.Errorf("storescu: exit code %d:\n%s", code, tail(out, 3000))
			}
			deliver(t, s.what, s.pacs, objects, begin)
		}
	})
	t.Run("samples", func(t *testing.T) {
		samples := Samples(t)
		if len(samples) == 0 {
			t.Skip("no sample files: set TOWPATH_SAMPLES")
		}
		// through sends files to an archive through the clinic, and those that the clinic acknowledged to an archive of the same kind
		// directly. What the second has then, the first must have, byte for byte.
		// dcmsend makes the same bytes of two of the files, which a queued service delivers once.
		through := func(what string, pacs PACS, port int, called string, files []string, control PACS, controlPort int) {
			begin := time.Now()
			_, _, sent := n.Modality.Send(t, ClinicLAN, port, called, files)
			acknowledged, others := split(sent)
			_, _, direct := n.PACS.Send(t, "127.0.0.1", controlPort, called, acknowledged)
			want := control.Objects()
			taken, _ := split(direct)
			due := want
			if port != directPort {
				due = OnePerObject(want)
			}
			deliver(t, what, pacs, due, begin)
			tr.note("  of %d files the clinic took %d, and of these %s itself takes %d", len(files), len(acknowledged), called, len(taken))
			if len(want) < 100 || len(want) != len(taken) {
				t.Errorf("the control archive has %d objects of %d taken: is it a control?", len(want), len(taken))
			}
			// What is left the clinic refused in the modality's face. The archive may be less strict.
			_, _, direct = n.PACS.Send(t, "127.0.0.1", controlPort, called, others)
			taken, _ = split(direct)
			for _, f := range taken {
				why := brokenSamples[filepath.Base(f)]
				if why == "" {
					t.Errorf("the clinic refused %s, which %s itself takes and which is not known to break the standard", f, called)
				}
				tr.note("  refused by the clinic, taken by %s: %s: %s", called, filepath.Base(f), why)
			}
			control.Stop(t)
		}
		through("sample files, dcmsend, queued, storescp", archive, archivePort, "ARCHIVE", samples,
			n.PACS.Storescp(t, "control-1", "ARCHIVE", 21112), 21112)
		through("sample files, dcmsend, pass-through, storescp", archive, directPort, "ARCHIVE", samples,
			n.PACS.Storescp(t, "control-2", "ARCHIVE", 21113), 21113)
		through("sample files, dcmsend, queued, Orthanc", orthanc, orthancPort, "ORTHANC", OnePerInstance(samples),
			n.PACS.Orthanc(t, "control-3", "ORTHANC", 24242, 28042), 24242)
	})
	t.Run("order", func(t *testing.T) {
		begin := time.Now()
		ack, order := n.Modality.SendHL7(t, "mllp_send", ClinicLAN, orderPort, patient.Order("ORDER-1", "RIS"))
		if !strings.Contains(ack, "MSA|AA|ORDER-1") {
			t.Errorf("the clinic answered %q", ack)
		}
		exchange(t, tr, "HL7 order, mllp_send, queued, RIS", ris, order, begin)
	})
	t.Run("result", func(t *testing.T) {
		begin := time.Now()
		ack, result := n.PACS.SendHL7(t, "nc", CenterLAN, resultPort, patient.Result("RESULT-1", "KIS"))
		if !strings.Contains(ack, "MSA|AA|RESULT-1") {
			t.Errorf("the center answered %q", ack)
		}
		exchange(t, tr, "HL7 result, nc, queued, clinic's system", kis, result, begin)
	})
	peak := a.Process.PeakMemory(t)
	tr.note("memory at most: clinic's gateway %d MB, center %d MB", peak/1e6, f.server.PeakMemory(t)/1e6)
	if peak > maxMemory {
		t.Errorf("the clinic's gateway took %d MB, more than %d", peak/1e6, maxMemory/1e6)
	}
	t.Run("PACS down", func(t *testing.T) {
		archive.Stop(t)
		held := archive.Count()
		second := patient
		second.StudyUID += ".9"
		dir := t.TempDir()
		files, objects, err := second.WriteStudy(dir, 10, 128)
		if err != nil {
			t.Fatal(err)
		}
		if out, code := n.Modality.Store(t, ClinicLAN, archivePort, "ARCHIVE", files); code != 0 {
			t.Fatalf("the clinic must take objects while the PACS is down: %s", out)
		}
		a.Kill() // and a power cut on top
		a.Run(whole)
		a.WaitForService(t, archivePort)
		if archive.Count() != held {
			t.Fatalf("objects arrived at a PACS that is down")
		}
		begin := time.Now()
		archive.Start(whole)
		deliver(t, "PACS down, gateway killed, PACS up", archive, objects, begin)
	})
	t.Run("doctor", func(t *testing.T) {
		out, code := a.Doctor(t)
		for _, line := range []string{"ok       standing: ", "ok       coordinator: ", "ok       site center: it is reached directly, at "} {
			if !strings.Contains(out, line) {
				t.Errorf("no line %q", line)
			}
		}
		if code != 0 {
			t.Errorf("exit code %d", code)
		}
		if t.Failed() {
			t.Log(out)
		}
	})
	t.Run("clinics apart", func(t *testing.T) { apart(t, n, a, b) })

	for pacs, want := range expected {
		if _, missing, extra := Compare(want, pacs.Objects()); missing != nil || extra != nil {
			t.Errorf("at the end an archive lacks %v and has too much %v", missing, extra)
		}
	}
	wanClinic.Stop(t)
	wanCenter.Stop(t)
	lanClinic.Stop(t)
	judge(t, n, tr, canary, []*Capture{wanClinic, wanCenter}, lanClinic)
	if !a.Stop(t) || !b.Stop(t) || !f.server.Stop(t) {
		t.Error("a program did not end in order")
	}
	noCanaryInLogs(t, n, tr, canary)
	_ = tr.w.Flush()
	t.Logf("transcript\n%s", tr.b.String())
}

// maxMemory bounds what a box takes under load, in bytes: it has 1 GB, and other things to do.
const maxMemory int64 = 150 << 20

// brokenSamples are sample files with which dcmsend itself breaks the standard, so that refusing them is right. Archives may be less
// strict.
var brokenSamples = map[string]string{
	"pydicom-data__bad_sequence.dcm":   "the SOP instance UID has letters (PS3.5 §9.1)",
	"pydicom-data__explicit_VR-UN.dcm": "the SOP class of the request is not the presentation context's (PS3.4 §B.3.1)",
	"pydicom__rtdose_rle.dcm":          "the SOP class of the request is not the presentation context's (PS3.4 §B.3.1)",
}

// split separates the files that were acknowledged from the others.
func split(sent []Sent) (acknowledged, others []string) {
	for _, s := range sent {
		if s.Acknowledged() {
			acknowledged = append(acknowledged, s.File)
		} else {
			others = append(others, s.File)
		}
	}
	return acknowledged, others
}

// exchange waits for a message and compares it.
func exchange(t *testing.T, tr *transcript, what string, box *Mailbox, want []byte, begin time.Time) {
	t.Helper()
	Within(time.Minute, func() bool { return len(box.Messages()) > 0 })
	equal := 0
	got := box.Messages()
	if len(got) == 1 && bytes.Equal(got[0], want) {
		equal = 1
	} else {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
	tr.row(what, 1, len(got), equal, time.Since(begin))
}

// apart tries to reach the second clinic from the first, every way a person on the box could; the center, which may, must get through.
func apart(t *testing.T, n *Network, a, b *Box) {
	t.Helper()
	if a.Address == "" || b.Address == "" || a.Address == b.Address {
		t.Fatalf("addresses %q and %q", a.Address, b.Address)
	}
	offers := n.Clinic2.Must(t, 10*time.Second, nil, "ss", "-Hltn", "src", b.Address)
	if offers == "" {
		t.Fatal("the second clinic offers nothing on its overlay address, so not reaching it proves nothing")
	}
	reach := func(from Namespace, address string) error {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		c, err := from.Dial(ctx, address)
		if err == nil {
			_ = c.Close()
		}
		return err
	}
	local := strings.Fields(offers)[3] // address%device:port
	address := b.Address + local[strings.LastIndex(local, ":"):]
	if err := reach(n.Center, address); err != nil {
		t.Errorf("the center cannot reach what clinic B offers it at %s: %v", address, err)
	}
	if err := reach(n.Clinic, address); err == nil {
		t.Errorf("clinic A reaches clinic B at %s", address)
	}
	if err := reach(n.Modality, address); err == nil {
		t.Errorf("a modality of clinic A reaches clinic B at %s", address)
	}
	if err := reach(n.Modality, PACSAddr+":11112"); err == nil {
		t.Error("a modality of clinic A reaches the PACS without the gateway")
	}
	if out, code := n.Clinic.Run(t, 10*time.Second, nil, "ping", "-c", "2", "-W", "1", b.Address); code == 0 {
		t.Errorf("clinic A can ping clinic B:\n%s", out)
	}
}

// judge reads the captures: on the wide-area side only WireGuard and the enrolment, and no trace of the patient; on the clinic's LAN
// the same search finds the patient.
func judge(t *testing.T, n *Network, tr *transcript, canary Canary, outside []*Capture, inside *Capture) {
	t.Helper()
	for _, c := range outside {
		traffic, err := ReadCapture(c.File, EnrollPort)
		if err != nil {
			t.Error(err)
			continue
		}
		hits, err := canary.SearchFile(c.File)
		if err != nil {
			t.Error(err)
			continue
		}
		name := filepath.Base(c.File)
		for _, h := range hits {
			t.Errorf("%s: found the %s", name, h)
		}
		if traffic.OtherCount > 0 {
			t.Errorf("%s: %d packets that are neither WireGuard, enrolment nor questions to the router: %v", name, traffic.OtherCount, traffic.Other)
		}
		if traffic.WireGuard[1] == 0 || traffic.WireGuard[2] == 0 || traffic.WireGuard[4] < 1000 || traffic.HTTP == 0 {
			t.Errorf("%s: the traffic is not what was sent: %+v", name, traffic)
		}
		tr.note("%s: %d packets, %.1f MB: WireGuard %d (initiations %d, responses %d, cookies %d, data %d), enrolment HTTP %d, ARP and ICMP %d, questions to the router for a port %d, other %d; canary hits %d",
			name, traffic.Packets, float64(traffic.Bytes)/1e6, traffic.Tunnel(), traffic.WireGuard[1], traffic.WireGuard[2], traffic.WireGuard[3], traffic.WireGuard[4],
			traffic.HTTP, traffic.Neighbors, traffic.Mapping, traffic.OtherCount, len(hits))
	}
	hits, err := canary.SearchFile(inside.File)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]int{}
	for _, h := range hits {
		found[h.What]++
	}
	for what := range canary {
		if found[what] == 0 {
			t.Errorf("the search does not find the %s where it must be, on the clinic's LAN", what)
		}
	}
	tr.note("%s: canary hits %d (here it must be found)", filepath.Base(inside.File), len(hits))
	up, down := n.WAN.Stats()
	tr.note("line: up %d packets, %d lost, %d dropped by the queue; down %d, %d, %d", up.Packets, up.Lost, up.QueueDrops, down.Packets, down.Lost, down.QueueDrops)
}

// noCanaryInLogs searches what the programs printed, what the coordinator keeps, and what boxes remember of objects.
func noCanaryInLogs(t *testing.T, n *Network, tr *transcript, canary Canary) {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(n.Dir, "gateway-*.log"))
	if err != nil {
		t.Fatal(err)
	}
	logs = append(logs, filepath.Join(n.Dir, "coordinator.log"))
	kept, err := filepath.Glob(filepath.Join(n.Dir, "coordinator", "*"))
	if err != nil {
		t.Fatal(err)
	}
	history, err := filepath.Glob(filepath.Join(n.Dir, "state-*", "history", "*"))
	if err != nil || len(history) == 0 {
		t.Errorf("the boxes keep no history: %v, %v", history, err)
	}
	kept = append(kept, history...)
	hits, searched := 0, 0
	for _, file := range append(logs, kept...) {
		if info, err := os.Stat(file); err != nil || !info.Mode().IsRegular() {
			continue
		}
		searched++
		found, err := canary.SearchFile(file)
		if err != nil {
			t.Error(err)
		}
		hits += len(found)
		for _, h := range found {
			t.Errorf("%s: found the %s", filepath.Base(file), h)
		}
	}
	if searched < 4 {
		t.Errorf("only %d logs and files of the coordinator to search", searched)
	}
	tr.note("logs of all programs and files of the coordinator: %d searched, canary hits %d", searched, hits)
}
