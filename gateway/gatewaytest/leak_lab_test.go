//go:build lab

package gatewaytest

import (
	"bytes"
	"strings"
	"testing"
)

// TestLabSeesALeak sends the same things with the same programs across the same line, but without a tunnel: everything must arrive,
// and the judges of the main job must find it out. What cannot convict proves nothing.
func TestLabSeesALeak(t *testing.T) {
	up, down := line()
	n := NewNetwork(t, up, down)
	for _, ns := range []Namespace{n.Clinic, n.Center} {
		ns.Sysctl(t, "net/ipv4/ip_forward", "1")
	}
	n.Internet.IP(t, "route", "add", "10.10.1.0/24", "via", ClinicWAN)
	n.Internet.IP(t, "route", "add", "10.20.1.0/24", "via", CenterWAN)

	capture := n.Clinic.Capture(t, "leak", "wan0")
	archive, orthanc := n.PACS.Storescp(t, "storescp", "ARCHIVE", 11112), n.PACS.Orthanc(t, "orthanc", "ORTHANC", 4242, 8042)
	ris := n.PACS.Mailbox(t, PACSAddr+":2575")
	patient := NewPatient()
	files, objects, err := patient.WriteStudy(t.TempDir(), 3, 64)
	if err != nil {
		t.Fatal(err)
	}
	if out, code := n.Modality.Echo(t, PACSAddr, 11112, "ARCHIVE"); code != 0 {
		t.Fatalf("no C-ECHO: %s", out)
	}
	if out, code := n.Modality.Store(t, PACSAddr, 11112, "ARCHIVE", files); code != 0 {
		t.Fatalf("storescu: %s", out)
	}
	if out, code, _ := n.Modality.Send(t, PACSAddr, 4242, "ORTHANC", files); code != 0 {
		t.Fatalf("dcmsend: %s", out)
	}
	for name, pacs := range map[string]PACS{"storescp": archive, "Orthanc": orthanc} {
		if equal, missing, extra := Compare(objects, pacs.Objects()); equal != 3 || missing != nil || extra != nil {
			t.Errorf("%s: %d equal, missing %v, extra %v", name, equal, missing, extra)
		}
	}
	order := patient.Order("ORDER-1", "RIS")
	for i, program := range []string{"mllp_send", "nc"} {
		ack, sent := n.Modality.SendHL7(t, program, PACSAddr, 2575, order)
		if !strings.Contains(ack, "MSA|AA|ORDER-1") {
			t.Errorf("%s printed %q", program, ack)
		}
		if got := ris.Messages(); len(got) != i+1 || !bytes.Equal(got[i], sent) {
			t.Errorf("%s: got %q", program, got)
		}
	}
	archive.Stop(t)
	if _, code := n.Modality.Echo(t, PACSAddr, 11112, "ARCHIVE"); code == 0 {
		t.Error("C-ECHO works with the archive stopped")
	}
	archive.Start(t)
	if got := len(archive.Objects()); got != 3 {
		t.Errorf("the archive has %d objects after a restart", got)
	}
	capture.Stop(t)

	traffic, err := ReadCapture(capture.File, EnrollPort)
	if err != nil {
		t.Fatal(err)
	}
	if traffic.OtherCount == 0 || traffic.Tunnel() != 0 {
		t.Errorf("plain DICOM is taken for something else: %+v", traffic)
	}
	hits, err := patient.Canary().SearchFile(capture.File)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]int{}
	for _, h := range hits {
		found[h.What]++
	}
	for what := range patient.Canary() {
		if found[what] == 0 {
			t.Errorf("the %s crossed the line in the clear and was not found", what)
		}
	}
	upStats, downStats := n.WAN.Stats()
	t.Logf("found %v; line: %+v %+v", found, upStats, downStats)
	if upStats.DeliveredBytes < int64(2*3*2*64*64) || downStats.Packets == 0 {
		t.Error("the traffic did not pass the emulated line")
	}
}
