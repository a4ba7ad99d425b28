package dicom_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// between returns what stands between two words.
func between(s, from, to string) string {
	_, s, _ = strings.Cut(s, from)
	s, _, _ = strings.Cut(s, to)
	return strings.TrimRight(s, "\x00 ")
}

// python is an interpreter of the system's, which is the one that has the packages of the system.
func python() string {
	if _, err := os.Stat("/usr/bin/python3"); err == nil {
		return "/usr/bin/python3"
	}
	return "python3"
}

// pynetdicom runs one of its applications. TOWPATH_PYNETDICOM is the folder above the package where it is not installed.
func pynetdicom(args ...string) []string {
	path := "PYTHONPATH=" + os.Getenv("TOWPATH_PYNETDICOM")
	return append([]string{"PYTHONDONTWRITEBYTECODE=1", path, python()}, args...)
}

const pynetdicomNote = "Debian has pydicom, but not pynetdicom: this part is run where TOWPATH_PYNETDICOM names a source tree of it (`TOWPATH_PYNETDICOM=DIR go test ./proxy/dicom " +
	"-run TestPeerMatrix/peers/pynetdicom -v`). Elsewhere the test is skipped by name, and what stands here is from the last run with -update that had it."

func lacksPynetdicom(t *testing.T) string {
	if why := lacking("env", "storescu", "dcmqrscp", "wlmscpfs")(t); why != "" {
		return why
	}
	if out, err := run(t, "env", pynetdicom("-c", "import pynetdicom")...); err != nil {
		return fmt.Sprintf("%s cannot import pynetdicom (%s): install python3-pydicom and set TOWPATH_PYNETDICOM to a source tree of pynetdicom 2",
			python(), lastLine(out))
	}
	return ""
}

func pynetdicomVersion(t *testing.T) string {
	out, _ := run(t, "env", pynetdicom("-c", "import pynetdicom, pydicom; print(pynetdicom.__version__ + ', pydicom ' + pydicom.__version__)")...)
	return strings.TrimSpace(out)
}

// pynet runs an application of pynetdicom against a door.
func (l *matrixLab) pynet(t *testing.T, d door, app string, args ...string) (string, error) {
	t.Helper()
	all := append([]string{"-m", "pynetdicom", app, "127.0.0.1", d.port}, args...)
	out, err := run(t, "env", pynetdicom(append(all, "-v", "-aec", d.ae)...)...)
	if err != nil {
		return out, fmt.Errorf("%s: %w\n%s", app, err, out)
	}
	// It ends with 0 whatever comes.
	for _, bad := range []string{"E: ", "rejected", "Aborted", "Failure"} {
		if strings.Contains(out, bad) {
			return out, fmt.Errorf("%s:\n%s", app, out)
		}
	}
	return out, nil
}

func (l *matrixLab) pynetDoes(app, text string, args ...string) func(*testing.T, door) (string, error) {
	return func(t *testing.T, d door) (string, error) {
		out, err := l.pynet(t, d, app, args...)
		if err == nil && !strings.Contains(out, "0x0000") {
			err = fmt.Errorf("%s does not say success:\n%s", app, out)
		}
		return text, err
	}
}

func (l *matrixLab) pynetFinds(args ...string) func(*testing.T, door) (string, error) {
	return func(t *testing.T, d door) (string, error) {
		out, err := l.pynet(t, d, "findscu", args...)
		n := strings.Count(out, "0xFF00")
		if err == nil && n == 0 {
			err = fmt.Errorf("nothing was found\n%s", out)
		}
		return fmt.Sprintf("%d matches", n), err
	}
}

func pynetdicomRows(l *matrixLab) []matrixRow {
	t := l.t
	p, dir := freePort(t), t.TempDir()
	own := inFolder(start(t, "PYND", p, "env", pynetdicom("-m", "pynetdicom", "storescp", p, "-aet", "PYND", "-od", dir)...), "PYND", dir)
	scp, wl := l.storescp(), l.worklistServer()
	ws, ports := l.workstation()
	qr := l.archiveOfDcmtk(ports)
	gotDir := t.TempDir()
	study := []string{"-S", "-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID=" + l.study}
	moves := func(t *testing.T, d door) (string, error) {
		return l.pynetDoes("movescu", "", append([]string{"-aem", d.destination()}, study...)...)(t, d)
	}
	return []matrixRow{
		{operation: "C-ECHO", programs: "echoscu of pynetdicom → storescp", to: scp, queue: true, plain: true, do: l.pynetDoes("echoscu", "0000")},
		{operation: "C-STORE", programs: "storescu of pynetdicom → storescp", to: scp, queue: true, objects: true, plain: true, do: l.pynetDoes("storescu", "", filepath.Dir(l.files[0]), "-cx")},
		{operation: "C-FIND", programs: "findscu of pynetdicom → dcmqrscp", to: qr, plain: true, do: l.pynetFinds("-S", "-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID=")},
		{operation: "C-FIND, worklist", programs: "findscu of pynetdicom → wlmscpfs", to: wl, plain: true, do: l.pynetFinds("-W", "-aet", "CT1", "-k", "PatientName=")},
		{operation: "C-MOVE", programs: "movescu of pynetdicom → dcmqrscp → storescp", to: qr, arrive: ws, queue: true, objects: true, plain: true, do: moves},
		{operation: "C-GET", programs: "getscu of pynetdicom → dcmqrscp", to: qr, arrive: inFolder("", "", gotDir), objects: true, plain: true, do: l.pynetDoes("getscu", "", append([]string{"-od", gotDir}, study...)...)},
		{operation: "C-ECHO", programs: "echoscu → storescp of pynetdicom", to: own, queue: true, do: l.does("echoscu", "0000")},
		{operation: "C-STORE", programs: "storescu → storescp of pynetdicom", to: own, queue: true, objects: true, do: l.does("storescu", "", l.files...)},
	}
}

// pixelMedJar is where Debian has it.
const pixelMedJar = "/usr/share/java/pixelmed.jar"

func lacksPixelMed(t *testing.T) string {
	if _, err := os.Stat(pixelMedJar); err != nil {
		return pixelMedJar + " is not installed"
	}
	return lacking("java", "storescu", "dcmqrscp")(t)
}

func pixelMed(class string, args ...string) []string {
	jars, _ := filepath.Glob("/usr/share/java/*.jar")
	return append([]string{"-XX:TieredStopAtLevel=1", "-cp", strings.Join(jars, ":"), "com.pixelmed.network." + class}, args...)
}

// java runs a user of PixelMed's.
func java(t *testing.T, class string, args ...string) error {
	t.Helper()
	out, err := run(t, "java", pixelMed(class, args...)...)
	if err == nil && strings.Contains(out, "Exception") {
		err = errors.New("an exception")
	}
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", class, err, out)
	}
	return nil
}

func pixelMedRows(l *matrixLab) []matrixRow {
	t := l.t
	p, dir := freePort(t), t.TempDir()
	own := inFolder(start(t, "PIXSCP", p, "java", pixelMed("StorageSOPClassSCPDispatcher", p, "PIXSCP", dir)...), "PIXSCP", dir)
	scp := l.storescp()
	ws, ports := l.workstation()
	qr := l.archiveOfDcmtk(ports)
	echoes := func(t *testing.T, d door) (string, error) {
		return "0000", java(t, "VerificationSOPClassSCU", "127.0.0.1", d.port, d.ae, "PIXELMED", "NONSECURE")
	}
	stores := func(t *testing.T, d door) (string, error) {
		// It reads the names of files from standard input.
		args := pixelMed("StorageSOPClassSCU", "127.0.0.1", d.port, d.ae, "PIXELMED", "-")
		out, err := run(t, "sh", append([]string{"-c", `ls "$0"/*.dcm | exec java "$@"`, filepath.Dir(l.files[0])}, args...)...)
		if err != nil {
			err = fmt.Errorf("StorageSOPClassSCU: %w\n%s", err, out)
		}
		return "", err
	}
	moves := func(t *testing.T, d door) (string, error) {
		return "", java(t, "MoveSOPClassSCU", "127.0.0.1", d.port, d.ae, "PIXELMED", d.destination(), "STUDY", l.study)
	}
	return []matrixRow{
		{operation: "C-ECHO", programs: "VerificationSOPClassSCU → storescp", to: scp, queue: true, plain: true, do: echoes},
		{operation: "C-STORE", programs: "StorageSOPClassSCU → storescp", to: scp, queue: true, objects: true, plain: true, do: stores},
		{operation: "C-MOVE", programs: "MoveSOPClassSCU → dcmqrscp → storescp", to: qr, arrive: ws, queue: true, objects: true, plain: true, do: moves},
		{operation: "C-ECHO", programs: "echoscu → StorageSOPClassSCPDispatcher", to: own, queue: true, do: l.does("echoscu", "0000")},
		{operation: "C-STORE", programs: "storescu → StorageSOPClassSCPDispatcher", to: own, queue: true, objects: true, do: l.does("storescu", "", l.files...)},
	}
}

func ctnRows(l *matrixLab) []matrixRow {
	t := l.t
	p, dir := freePort(t), t.TempDir()
	own := inFolder(start(t, "CTNSCP", p, "simple_storage", "-s", "-x", dir, p), "CTNSCP", dir)
	scp, wl := l.storescp(), l.worklistServer()
	query := filepath.Join(t.TempDir(), "query")
	if err := os.WriteFile(query+".txt", []byte("(0010,0010) PN\n(0010,0020) LO\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := run(t, "dump2dcm", "-F", "+ti", query+".txt", query); err != nil {
		t.Fatalf("dump2dcm: %v\n%s", err, out)
	}
	ctn := func(text, success, name string, args ...string) func(*testing.T, door) (string, error) {
		return func(t *testing.T, d door) (string, error) {
			all := []string{"-a", "CTN", "-c", d.ae, "127.0.0.1", d.port}
			if name == "mwlQuery" {
				all = append(slices.Clone(args), all...)
			} else {
				all = append(all, args...)
			}
			out, err := run(t, name, all...)
			if err == nil && !strings.Contains(out, success) {
				err = errors.New("no success")
			}
			if err != nil {
				return "", fmt.Errorf("%s: %w\n%s", name, err, out)
			}
			return text, nil
		}
	}
	return []matrixRow{
		{operation: "C-ECHO", programs: "dicom_echo → storescp", to: scp, queue: true, plain: true, do: ctn("0000", "0000", "dicom_echo")},
		{operation: "C-STORE", programs: "send_image → storescp", to: scp, queue: true, objects: true, plain: true, do: ctn("", "0000", "send_image", l.files...)},
		{operation: "C-FIND, worklist", programs: "mwlQuery → wlmscpfs", to: wl, plain: true, do: ctn("found", "PHANTOM", "mwlQuery", "-f", query)},
		{operation: "C-FIND, worklist, empty query", programs: "mwlQuery → wlmscpfs", to: wl, plain: true, do: ctn("found", "PHANTOM", "mwlQuery")},
		{operation: "C-ECHO", programs: "echoscu → simple_storage", to: own, queue: true, do: l.does("echoscu", "0000")},
		{operation: "C-STORE", programs: "storescu → simple_storage", to: own, queue: true, objects: true, do: l.does("storescu", "", l.files...)},
	}
}
