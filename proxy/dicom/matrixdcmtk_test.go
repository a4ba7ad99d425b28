package dicom_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/lantls"
)

func matrixPeers() []matrixPeer {
	return []matrixPeer{
		{name: "DCMTK", lacks: lacking("storescu", "dcmqrscp", "wlmscpfs"), version: toolVersion("storescu"), rows: dcmtkRows},
		{name: "Orthanc", lacks: lacking("storescu", "Orthanc"), version: toolVersion("Orthanc"), rows: orthancRows, note: orthancNote},
		{name: "pynetdicom", lacks: lacksPynetdicom, version: pynetdicomVersion, rows: pynetdicomRows, note: pynetdicomNote},
		{name: "PixelMed", lacks: lacksPixelMed, version: packageVersion("libpixelmed-java"), rows: pixelMedRows},
		{name: "CTN", lacks: lacking("storescu", "dicom_echo", "send_image"), version: packageVersion("ctn"), rows: ctnRows},
		{name: "odil", lacks: lacksOdil, version: packageVersion("odil"), rows: odilRows, note: odilNote},
		notObtained("dcm4che", "Java; it is built with Maven, whose repositories the builders cannot reach, and Debian does not have it"),
		notObtained("fo-dicom", ".NET; it comes by NuGet, which the builders cannot reach, and Debian has neither it nor .NET"),
	}
}

// notObtained is a peer that cannot be had where this is built. It has a part of the document and a skip, so that nobody takes it for tested.
func notObtained(name, why string) matrixPeer {
	return matrixPeer{name: name, lacks: func(*testing.T) string { return why }, note: "Not run: " + why + "."}
}

// lacking says which programs are not installed.
func lacking(names ...string) func(*testing.T) string {
	return func(*testing.T) string {
		var lacks []string
		for _, n := range names {
			if _, err := exec.LookPath(n); err != nil {
				lacks = append(lacks, n+" is not installed")
			}
		}
		return strings.Join(lacks, ", ")
	}
}

var versionNumber = regexp.MustCompile(`\d+\.[0-9.]+\d`)

func toolVersion(name string) func(*testing.T) string {
	return func(t *testing.T) string {
		out, _ := run(t, name, "--version")
		return versionNumber.FindString(out)
	}
}

func packageVersion(name string) func(*testing.T) string {
	return func(t *testing.T) string {
		if _, err := exec.LookPath("dpkg-query"); err != nil {
			return "unknown"
		}
		out, _ := run(t, "dpkg-query", "-W", "-f", "${Version}", name)
		return out
	}
}

// dcmtk runs one of its users against a door.
func (l *matrixLab) dcmtk(t *testing.T, d door, name string, args ...string) (string, error) {
	t.Helper()
	all := []string{"-v", "-aec", d.ae}
	if d.secure {
		all = append(all, "+tls", l.key, l.cert, "+cf", l.root)
	}
	var files []string
	for len(args) > 0 && strings.HasPrefix(args[len(args)-1], "/") {
		files, args = append(files, args[len(args)-1]), args[:len(args)-1]
	}
	all = append(append(append(all, args...), "127.0.0.1", d.port), files...)
	out, err := run(t, name, all...)
	if err != nil {
		return out, fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	return out, nil
}

// does returns a run of a user of dcmtk's of which nothing is known but that it says that it succeeded.
func (l *matrixLab) does(name, text string, args ...string) func(*testing.T, door) (string, error) {
	return func(t *testing.T, d door) (string, error) {
		_, err := l.dcmtk(t, d, name, args...)
		return text, err
	}
}

// finds returns a run of findscu.
func (l *matrixLab) finds(args ...string) func(*testing.T, door) (string, error) {
	return func(t *testing.T, d door) (string, error) {
		out, err := l.dcmtk(t, d, "findscu", args...)
		n := strings.Count(out, "(Pending)")
		if err == nil && n == 0 {
			err = fmt.Errorf("nothing was found\n%s", out)
		}
		return fmt.Sprintf("%d matches", n), err
	}
}

// moves returns a run of movescu.
func (l *matrixLab) moves() func(*testing.T, door) (string, error) {
	return func(t *testing.T, d door) (string, error) {
		out, err := l.dcmtk(t, d, "movescu", "-S", "-aet", "WS", "-aem", d.destination(), "-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID="+l.study)
		if err == nil && !strings.Contains(out, "Success") {
			err = fmt.Errorf("no success\n%s", out)
		}
		return "", err
	}
}

// gets returns a run of getscu and where it puts what it gets.
func (l *matrixLab) gets(t *testing.T) (*provider, func(*testing.T, door) (string, error)) {
	dir := t.TempDir()
	return inFolder("", "", dir), func(t *testing.T, d door) (string, error) {
		_, err := l.dcmtk(t, d, "getscu", "-S", "-B", "-od", dir+"/.", "-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID="+l.study)
		return "", err
	}
}

// destination is the AE title to which a provider moves in this mode.
func (d door) destination() string {
	switch {
	case d.mode.store():
		return "WSQUEUED"
	case d.mode.through():
		return "WSPASSED"
	}
	return "WSDIRECT"
}

// workstation is a destination of moves, with the ports at which a provider reaches it.
func (l *matrixLab) workstation() (at *provider, ports map[string]string) {
	t := l.t
	address, dir := storescp(t)
	at = inFolder(address, "WS", dir)
	ports = map[string]string{"WSDIRECT": port(t, address)}
	var now sync.Map // the way back of this run, by AE title
	for _, ae := range []string{"WSPASSED", "WSQUEUED"} {
		back, _ := serve(t, loopback{}, proxy.HandlerFunc(func(ctx context.Context, c net.Conn) proxy.Result {
			h, _ := now.Load(ae)
			return h.(proxy.Handler).Serve(ctx, c) //nolint:forcetypeassert // see renew
		}))
		ports[ae] = port(t, back)
	}
	at.renew = func(t *testing.T) {
		t.Helper()
		for ae, store := range map[string]bool{"WSPASSED": false, "WSQUEUED": true} {
			now.Store(ae, l.gateways(t, &provider{address: address, ae: ae}, loopback{}, store))
		}
	}
	return at, ports
}

// overTLS is a network in which everybody speaks TLS.
func (l *matrixLab) overTLS() proxy.Network {
	return lantls.NewClient(loopback{}, lantls.ClientConfig{
		Roots: l.pool, Book: lantls.NewBook(nil), Certificate: func() (*tls.Certificate, error) { return &l.pair, nil },
	})
}

// archiveOfDcmtk is dcmqrscp with the study in it.
func (l *matrixLab) archiveOfDcmtk(ports map[string]string) *provider {
	address, _ := qrscp(l.t, ports)
	at := &provider{address: address, ae: "QRPACS"}
	if _, err := l.dcmtk(l.t, door{port: port(l.t, address), ae: at.ae}, "storescu", l.files...); err != nil {
		l.t.Fatal(err)
	}
	return at
}

// worklist writes one entry in a folder as wlmscpfs wants it.
func worklist(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	entries := filepath.Join(dir, "WL")
	if err := os.Mkdir(entries, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{filepath.Join(dir, "wl.txt"): plannedEntry, filepath.Join(entries, "lockfile"): ""} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := run(t, "dump2dcm", filepath.Join(dir, "wl.txt"), filepath.Join(entries, "a.wl")); err != nil {
		t.Fatalf("dump2dcm: %v\n%s", err, out)
	}
	return dir
}

var planned = []string{"-W", "-aet", "CT1", "-k", "PatientName", "-k", "(0040,0100)[0].Modality=CT"}

func (l *matrixLab) worklistServer() *provider {
	p := freePort(l.t)
	return &provider{address: start(l.t, "WL", p, "wlmscpfs", "-dfp", worklist(l.t), "-dfr", p), ae: "WL"}
}

func (l *matrixLab) storescp() *provider {
	address, dir := storescp(l.t)
	return inFolder(address, "PACS", dir)
}

// compressed returns the files in RLE, with SOP instances of their own.
func (l *matrixLab) compressed() []string {
	var out []string
	dir := l.t.TempDir()
	for _, f := range l.files {
		path := filepath.Join(dir, filepath.Base(f))
		if said, err := run(l.t, "dcmcrle", "+un", f, path); err != nil {
			l.t.Fatalf("dcmcrle: %v\n%s", err, said)
		}
		l.add(l.t, path)
		out = append(out, path)
	}
	return out
}

func dcmtkRows(l *matrixLab) []matrixRow {
	t := l.t
	p, dir := freePort(t), t.TempDir()
	recv := inFolder(start(t, "RECV", p, "dcmrecv", "-xf", "/etc/dcmtk/storescp.cfg", "Default", "+B", "-od", dir, p), "RECV", dir)
	p, dir = freePort(t), t.TempDir()
	secure := inFolder(startIn(t, l.overTLS(), "TLSPACS", p, "storescp", "+xa", "+B", "+uf", "-od", dir, "+tls", l.key, l.cert, "+cf", l.root, p), "TLSPACS", dir)
	secure.secure = true
	scp, wl := l.storescp(), l.worklistServer()
	ws, ports := l.workstation()
	qr := l.archiveOfDcmtk(ports)
	got, get := l.gets(t)
	images := []string{"-S", "-k", "QueryRetrieveLevel=IMAGE", "-k", "StudyInstanceUID=" + l.study, "-k", "SeriesInstanceUID", "-k", "SOPInstanceUID"}
	return []matrixRow{
		{operation: "C-ECHO", programs: "echoscu → dcmqrscp", to: qr, queue: true, do: l.does("echoscu", "0000")},
		{operation: "C-STORE", programs: "storescu → storescp", to: scp, queue: true, objects: true, do: l.does("storescu", "", l.files...)},
		{operation: "C-STORE, RLE", programs: "storescu → storescp", to: scp, queue: true, objects: true, do: l.does("storescu", "", append([]string{"-xr"}, l.compressed()...)...)},
		{operation: "C-STORE", programs: "dcmsend → dcmrecv", to: recv, queue: true, objects: true, plain: true, do: l.does("dcmsend", "", append([]string{"-nh"}, l.files...)...)},
		{operation: "C-STORE", programs: "storescu → storescp with TLS", to: secure, queue: true, objects: true, do: l.does("storescu", "", l.files...)},
		{operation: "C-FIND, studies", programs: "findscu → dcmqrscp", to: qr, do: l.finds("-S", "-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID")},
		{operation: "C-FIND, images", programs: "findscu → dcmqrscp", to: qr, do: l.finds(images...)},
		{operation: "C-FIND, worklist", programs: "findscu → wlmscpfs", to: wl, do: l.finds(planned...)},
		{operation: "C-MOVE", programs: "movescu → dcmqrscp → storescp", to: qr, arrive: ws, queue: true, objects: true, plain: true, do: l.moves()},
		{operation: "C-GET", programs: "getscu → dcmqrscp", to: qr, arrive: got, objects: true, plain: true, do: get},
	}
}
