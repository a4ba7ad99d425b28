package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/towpath/towpath/proxy/dicom"
	"github.com/towpath/towpath/proxy/spool"
)

// stoppedBox makes a state directory with one object and one message, the object refused.
func stoppedBox(t *testing.T) (dir, object, message string) {
	t.Helper()
	dir = t.TempDir()
	s, err := spool.Open(filepath.Join(dir, "spool"), spool.Options{MinFreeBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	put := func(m spool.Meta, payload string) string {
		w, err := s.Create(m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, payload); err != nil {
			t.Fatal(err)
		}
		i, err := w.Commit()
		if err != nil {
			t.Fatal(err)
		}
		return string(i.ID)
	}
	object = put(spool.Meta{Queue: "dicom.pacs", Attributes: map[string]string{
		dicom.AttrTransferSyntax: "1.2.840.10008.1.2.1", dicom.AttrSOPClass: "1.2.840.10008.5.1.4.1.1.2", dicom.AttrSOPInstance: "1.2.3.4.5.6.7",
		dicom.AttrCallingAE: "CT1",
	}}, "the data set")
	message = put(spool.Meta{Queue: "hl7.his", Attributes: map[string]string{"hl7.control_id": "MSG-CANARY"}}, "MSH|^~\\&|")
	if err := s.Hold(spool.ID(object), "refused with A700"); err != nil {
		t.Fatal(err)
	}
	return dir, object, message
}

// queueCLI runs a queue command on a stopped box and returns its output.
func queueCLI(t *testing.T, dir string, arg ...string) (string, error) {
	t.Helper()
	app := newApp()
	var out bytes.Buffer
	app.Writer = &out
	err := app.RunContext(t.Context(), permute(app, append(append([]string{"towpath", "queue"}, arg...), "--state", dir)))
	return out.String(), err
}

func TestQueueOfAStoppedBox(t *testing.T) {
	dir, object, message := stoppedBox(t)
	must := func(arg ...string) string {
		t.Helper()
		out, err := queueCLI(t, dir, arg...)
		if err != nil {
			t.Fatalf("queue %s: %v", strings.Join(arg, " "), err)
		}
		return out
	}
	counts := must("list")
	for _, want := range []string{"dicom.pacs", "hl7.his", "refused with A700"} {
		if !strings.Contains(counts, want) {
			t.Errorf("%q is not among the queues:\n%s", want, counts)
		}
	}
	items := must("list", "hl7.his") + must("list", "hl7.his", "--json") + must("show", message) + must("show", "--json", message)
	if !strings.Contains(items, message) || strings.Contains(items, "CANARY") {
		t.Errorf("the item is missing, or more is shown than was asked for:\n%s", items)
	}
	if out := must("show", "--identifiers", message); !strings.Contains(out, "MSG-CANARY") {
		t.Errorf("the identifiers that were asked for are missing:\n%s", out)
	}

	file := filepath.Join(t.TempDir(), "object.dcm")
	must("export", "--out", file, object)
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	head, data, err := dicom.ReadPart10(f)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(data)
	if err != nil || string(body) != "the data set" || head.SOPInstance != "1.2.3.4.5.6.7" || head.SourceAE != "CT1" {
		t.Errorf("exported %q with %+v (%v)", body, head, err)
	}
	if st, err := f.Stat(); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the file's mode is %v (%v)", st.Mode(), err)
	}
	if out := must("export", "--out", "-", message); out != "MSH|^~\\&|" {
		t.Errorf("exported %q", out)
	}
	if _, err := queueCLI(t, dir, "export", "--out", file, object); err == nil {
		t.Error("an export went over a file that was there")
	}

	must("hold", message)
	if out := must("retry", "--all"); !strings.Contains(out, "2 items") {
		t.Errorf("retry --all: %s", out)
	}
	if _, err := queueCLI(t, dir, "drop", object); err == nil {
		t.Error("an item was dropped without a question")
	}
	must("drop", "--yes", object)
	if out := must("list"); strings.Contains(out, "dicom.pacs") || !strings.Contains(out, "hl7.his") {
		t.Errorf("after the drop:\n%s", out)
	}
}

func TestQueueRefusesWhatItCannotDo(t *testing.T) {
	dir, _, message := stoppedBox(t)
	for _, arg := range [][]string{
		{"list", "none"},
		{"list", "a", "b"},
		{"list", "--limit", "0"},
		{"show"},
		{"show", "x"},
		{"retry"},
		{"retry", "--all", "--queue", "hl7.his"},
		{"retry", "--all", message},
		{"hold", "x"},
		{"drop", "--yes", "x"},
		{"export", message},
	} {
		if out, err := queueCLI(t, dir, arg...); err == nil {
			t.Errorf("queue %s: %s", strings.Join(arg, " "), out)
		}
	}
	if _, err := queueCLI(t, filepath.Join(dir, "none"), "list"); err == nil {
		t.Error("a directory that is not there has queues")
	}
	if _, err := os.Stat(filepath.Join(dir, "none")); err == nil {
		t.Error("asking made the directory")
	}
}
