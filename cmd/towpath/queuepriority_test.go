package main

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/gateway/localapi"
)

// An operator's urgency is in the queue of a stopped box, and is shown.
func TestUrgentOfAStoppedBox(t *testing.T) {
	dir, object, message := stoppedBox(t)
	must := func(arg ...string) string {
		t.Helper()
		out, err := queueCLI(t, dir, arg...)
		if err != nil {
			t.Fatalf("queue %s: %v", strings.Join(arg, " "), err)
		}
		return out
	}
	if out := must("urgent", message); out != "1 item: urgent now.\n" {
		t.Errorf("it says %q", out)
	}
	if out := must("list"); !strings.Contains(out, "1, 1 urgent") {
		t.Errorf("the urgent one is not counted:\n%s", out)
	}
	if out := must("show", message); !strings.Contains(out, "urgent") {
		t.Errorf("the item is not urgent:\n%s", out)
	}
	if out := must("normal", message, "--json"); !strings.Contains(out, `"items": 1`) {
		t.Errorf("it says %q", out)
	}
	if out := must("list") + must("list", "hl7.his"); strings.Contains(out, "urgent") {
		t.Errorf("the item is urgent still:\n%s", out)
	}
	for _, arg := range [][]string{
		{"urgent"}, {"urgent", "x"}, {"urgent", "--study", "1.2.3", object}, {"urgent", "--study", "no UID"}, {"urgent", "--study", "1.2.3"},
	} {
		if out, err := queueCLI(t, dir, arg...); err == nil {
			t.Errorf("queue %s: %s", strings.Join(arg, " "), out)
		}
	}
}

func TestClassesNamed(t *testing.T) {
	got, err := classesNamed([]string{"xa", "1.2.3"})
	if want := []string{"1.2.840.10008.5.1.4.1.1.12.1", "1.2.840.10008.5.1.4.1.1.12.1.1", "1.2.3"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	if s := classNames(got); s != "XA, 1.2.3" {
		t.Errorf("shown as %q", s)
	}
	if s := classNames(got[1:]); s != "1.2.840.10008.5.1.4.1.1.12.1.1, 1.2.3" {
		t.Errorf("a part of XA is shown as %q", s)
	}
	if _, err := classesNamed([]string{"XRAY"}); err == nil {
		t.Error("a modality that does not exist has classes")
	}
}

// traceCLI runs a command on a box that is not running.
func traceCLI(t *testing.T, arg ...string) (string, error) {
	t.Helper()
	app := newApp()
	var out bytes.Buffer
	app.Writer = &out
	err := app.RunContext(t.Context(), permute(app, append(append([]string{"towpath"}, arg...), "--state", t.TempDir())))
	return out.String(), err
}

// Without a gateway nobody can tell, and the hint says so; what is no UID is not repeated.
func TestTraceWithoutAGateway(t *testing.T) {
	for _, arg := range [][]string{{"trace", "1.2.3"}, {"trace", " [1.2.3] "}, {"studies"}} {
		_, err := traceCLI(t, arg...)
		e, ok := errors.AsType[*ui.Error](err)
		if !errors.Is(err, localapi.ErrNotRunning) || !ok || e.Code != ui.ExitFailed || !strings.Contains(e.Hint, "towpath gateway") {
			t.Errorf("%v: %v", arg, err)
		}
	}
	for _, arg := range [][]string{{"trace"}, {"trace", "Kanarienvogel"}, {"trace", "1.2.3x"}, {"trace", "[]"}, {"studies", "x"}, {"studies", "--limit", "0"}} {
		if out, err := traceCLI(t, arg...); err == nil || strings.Contains(out+err.Error(), "Kanarien") {
			t.Errorf("%v: %q, %v", arg, out, err)
		}
	}
}

func TestPrintTrace(t *testing.T) {
	at := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
	tr := localapi.Trace{
		Items: []localapi.TracedItem{
			{
				Service: "pacs", Queue: "dicom.pacs", Item: "0000000000000001", State: localapi.StateDelivered, Size: 5000, Taken: at, Calling: "CT1", From: "nord",
				Carried: at.Add(time.Second), To: "center", Delivered: at.Add(2 * time.Second), Receiver: "PACS", Code: "0000",
			},
			{
				Service: "pacs", Queue: "dicom.pacs", Item: "0000000000000002", State: localapi.StateParked, Taken: at, Parked: at.Add(time.Minute), Attempts: 3,
				Reason: "PACS refused it", Urgent: true, Next: at.Add(time.Hour),
			},
		},
		Studies: []localapi.Study{{Service: "pacs", Study: "00112233aabbccdd", Objects: 7, Parked: 2, Dropped: 3, Callers: []string{"CT1 at 192.168.1.5"}, Reasons: []string{"PACS refused it"}}},
		Damaged: 1,
	}
	var out bytes.Buffer
	if err := printTrace(&out, tr, at); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"stored here, synced from AE title CT1, handed over by the gateway of nord", "stored by the gateway of center, synced", "taken by PACS with status 0000", "now: delivered",
		"queue retry|drop|export 0000000000000002", "urgent, tried 3 times, again in", "because: PACS refused it", "00112233aabbccdd", "DROPPED", "from CT1 at 192.168.1.5", "1 record of the history",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, out.String())
		}
	}
}
