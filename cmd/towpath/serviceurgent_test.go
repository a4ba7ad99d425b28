package main

import (
	"strings"
	"testing"
)

// What is urgent is said when a service is added or later, for either protocol, is shown, and can be taken back.
func TestUrgentOfAService(t *testing.T) {
	l := newPeerLab(t)
	add := []string{"service", "add", "--site", "lab", "--target", "192.168.178.20:105"}
	with := func(more ...string) []string { return append(append([]string{}, add...), more...) }
	l.run(with("er", "--dicom", "--ae-title", "ER", "--urgent-ae", "ER_CT", "--urgent-ae", "ER_DX", "--urgent-class", "xa", "--urgent-stat")...)
	l.run(with("his", "--hl7", "--urgent-stat", "--type", "ORM")...)
	shown := func(service string) string { return l.run("service", "show", service) }
	for service, want := range map[string]string{
		"er": "urgent from ER_CT, ER_DX; urgent are XA; urgent is what a worklist calls so", "his": "takes ORM; urgent is what an order calls so",
	} {
		if out := shown(service); !strings.Contains(out, want) {
			t.Errorf("%s is shown as\n%s", service, out)
		}
	}
	l.run("service", "set", "er", "--urgent-stat=false", "--urgent-ae", "")
	if out := shown("er"); strings.Contains(out, "ER_CT") || strings.Contains(out, "worklist") || !strings.Contains(out, "urgent are XA") {
		t.Errorf("after a change er is shown as\n%s", out)
	}
	l.run("service", "set", "er", "--urgent-stat", "--urgent-class", "CT")
	if out := l.run("service", "show", "er", "--json"); !strings.Contains(out, `"urgent_stat": true`) || !strings.Contains(out, `"1.2.840.10008.5.1.4.1.1.2.1"`) || strings.Contains(out, "12.1") {
		t.Errorf("after another er is shown as\n%s", out)
	}
	l.run("service", "set", "his", "--urgent-stat=false")
	if out := shown("his"); !strings.Contains(out, "takes ORM") || strings.Contains(out, "urgent") {
		t.Errorf("after a change his is shown as\n%s", out)
	}
	for want, arg := range map[string][]string{
		"neither a UID nor a modality": with("x", "--dicom", "--ae-title", "X", "--urgent-class", "XRAY"),
		"DICOM allows 16":              with("x", "--dicom", "--ae-title", "X", "--urgent-ae", "SEVENTEEN_LETTERS"),
		"can pass others":              with("x", "--dicom", "--ae-title", "X", "--mode", "pass-through", "--urgent-stat"),
		"only in the queue":            with("x", "--hl7", "--mode", "pass-through", "--urgent-stat"),
	} {
		if out, err := l.try(arg...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v\n%s", arg, err, out)
		}
	}
}
