package dicom_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const odilNote = "Its command line has no C-MOVE, no MPPS, no provider and a C-GET that fails by itself: these are a program made of its Python package. MPPS is a step created, created again (0111) and completed."

// odilPeer is our program made of odil: a user and a provider.
func odilPeer(args ...string) []string {
	return append([]string{"PYTHONDONTWRITEBYTECODE=1", python(), filepath.Join("testdata", "odilpeer.py")}, args...)
}

func lacksOdil(t *testing.T) string {
	if why := lacking("env", "odil", "storescu", "dcmqrscp")(t); why != "" {
		return why
	}
	if out, err := run(t, "env", "PYTHONDONTWRITEBYTECODE=1", python(), "-c", "import odil"); err != nil {
		return "no python3-odil: " + lastLine(out)
	}
	return ""
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

// odil returns a run of odil's command line. Some of its commands end with 0 whatever comes, but then they have said so.
func odil(command, text string, wants []string, args ...string) func(*testing.T, door) (string, error) {
	return func(t *testing.T, d door) (string, error) {
		out, err := run(t, "odil", append([]string{command, "127.0.0.1", d.port, "ODIL", d.ae}, args...)...)
		for _, w := range wants {
			if err == nil && !strings.Contains(out, w) {
				err = fmt.Errorf("it does not say %q", w)
			}
		}
		if err == nil && strings.Contains(out, "Could not") {
			err = fmt.Errorf("no success")
		}
		if err != nil {
			return "", fmt.Errorf("odil %s: %w\n%s", command, err, out)
		}
		return text, nil
	}
}

// reportsSteps returns a run of MPPS, which looks at what the provider has noted in its folder.
func reportsSteps(uid, dir string) func(*testing.T, door) (string, error) {
	return func(t *testing.T, d door) (string, error) {
		out, err := run(t, "env", odilPeer("mpps", d.port, d.ae, uid)...)
		if err != nil {
			return "", fmt.Errorf("mpps: %w\n%s", err, out)
		}
		path := filepath.Join(dir, uid+".json")
		noted, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		steps := strings.Split(strings.TrimSpace(string(noted)), "\n")
		if first, last := steps[0], steps[len(steps)-1]; !strings.Contains(first, "STEP1") || !strings.Contains(first, "IN PROGRESS") || !strings.Contains(last, "COMPLETED") {
			err = fmt.Errorf("the provider has %q", noted)
		}
		if removed := os.Remove(path); removed != nil {
			return "", removed
		}
		return strings.Join(strings.Fields(out), ", "), err
	}
}

func odilRows(l *matrixLab) []matrixRow {
	t := l.t
	p, dir := freePort(t), t.TempDir()
	own := inFolder(start(t, "ODILSCP", p, "env", odilPeer("serve", p, "ODILSCP", dir)...), "ODILSCP", dir)
	scp := l.storescp()
	ws, ports := l.workstation()
	qr := l.archiveOfDcmtk(ports)
	gotDir := t.TempDir()
	retrieves := func(command string, where func(door) string) func(*testing.T, door) (string, error) {
		return func(t *testing.T, d door) (string, error) {
			out, err := run(t, "env", odilPeer(command, d.port, d.ae, where(d), l.study)...)
			if err != nil {
				err = fmt.Errorf("%s: %w\n%s", command, err, out)
			}
			return "", err
		}
	}
	return []matrixRow{
		{operation: "C-ECHO", programs: "odil echo → storescp", to: scp, queue: true, plain: true, do: odil("echo", "0000", nil)},
		{operation: "C-STORE", programs: "odil store → storescp", to: scp, queue: true, objects: true, plain: true, do: odil("store", "", nil, l.files...)},
		{operation: "C-FIND", programs: "odil find → dcmqrscp", to: qr, plain: true, do: odil("find", "1 matches", []string{"1 answer\n", l.study}, "study", "QueryRetrieveLevel=STUDY", "StudyInstanceUID")},
		{operation: "C-MOVE", programs: "odil → dcmqrscp → storescp", to: qr, arrive: ws, queue: true, objects: true, plain: true, do: retrieves("move", door.destination)},
		{operation: "C-GET", programs: "odil → dcmqrscp", to: qr, arrive: inFolder("", "", gotDir), objects: true, plain: true, do: retrieves("get", func(door) string { return gotDir })},
		{operation: "C-ECHO", programs: "echoscu → odil", to: own, queue: true, do: l.does("echoscu", "0000")},
		{operation: "C-STORE", programs: "storescu → odil", to: own, queue: true, objects: true, do: l.does("storescu", "", l.files...)},
		{operation: "MPPS", programs: "odil → odil", to: own, plain: true, do: reportsSteps("1.2.840.99999.1", dir)},
	}
}
