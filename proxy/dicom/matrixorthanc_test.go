package dicom_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/dicom"
)

const orthancNote = "Storage commitment for queued objects is a test of its own (`TestOrthancCommitsThroughTheQueue`)."

// orthancLab is one Orthanc, driven by its HTTP interface.
type orthancLab struct {
	provider
	api string
	lab *matrixLab
}

// orthanc starts one.
func (l *matrixLab) orthanc(ae string, secure bool, more map[string]any) *orthancLab {
	t := l.t
	dir, p, h := t.TempDir(), freePort(t), freePort(t)
	number := func(s string) int { n, _ := strconv.Atoi(s); return n }
	config := map[string]any{
		"Name": ae, "StorageDirectory": dir, "IndexDirectory": dir, "DicomAet": ae, "DicomPort": number(p), "HttpPort": number(h),
		"AuthenticationEnabled": false, "Plugins": []string{}, "SaveJobs": false, "DicomCheckCalledAet": false,
		"DicomAlwaysAllowEcho": true, "DicomAlwaysAllowStore": true, "DicomAlwaysAllowFind": true, "DicomAlwaysAllowGet": true,
		"DicomAlwaysAllowMove": true, "DicomAlwaysAllowFindWorklist": true, "OverwriteInstances": true,
		"DicomTlsEnabled": secure, "DicomTlsCertificate": l.cert, "DicomTlsPrivateKey": l.key, "DicomTlsTrustedCertificates": l.root,
	}
	maps.Copy(config, more)
	b, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "orthanc.json")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	network := proxy.Network(loopback{})
	if secure {
		network = l.overTLS()
	}
	o := &orthancLab{api: "http://127.0.0.1:" + h, lab: l}
	o.provider = provider{address: startIn(t, network, ae, p, "Orthanc", path), ae: ae, secure: secure, kept: o.instances, empty: o.forget}
	eventually(t, "its HTTP interface answers", func() bool { return o.ask(t, http.MethodGet, "/system", nil, nil) == nil })
	return o
}

// ask is one question to the HTTP interface.
func (o *orthancLab) ask(t *testing.T, method, path string, body, out any) error {
	t.Helper()
	b, ok := body.([]byte)
	if !ok && body != nil {
		var err error
		if b, err = json.Marshal(body); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), method, o.api+path, bytes.NewReader(b))
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s %s %w", method, path, resp.Status, answer, err)
	}
	if raw, ok := out.(*[]byte); ok {
		*raw = answer
		return nil
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(answer, out)
}

// ids are those of its instances.
func (o *orthancLab) ids(t *testing.T) (ids []string) {
	t.Helper()
	if err := o.ask(t, http.MethodGet, "/instances", nil, &ids); err != nil {
		t.Fatal(err)
	}
	return ids
}

func (o *orthancLab) instances(t *testing.T) map[[32]byte]int {
	t.Helper()
	out := map[[32]byte]int{}
	for _, id := range o.ids(t) {
		var file []byte
		if err := o.ask(t, http.MethodGet, "/instances/"+id+"/file", nil, &file); err != nil {
			t.Fatal(err)
		}
		_, data, err := dicom.ReadPart10(bytes.NewReader(file))
		if err != nil {
			t.Fatal(err)
		}
		h := sha256.New()
		if _, err := io.Copy(h, data); err != nil {
			t.Fatal(err)
		}
		out[[32]byte(h.Sum(nil))]++
	}
	return out
}

func (o *orthancLab) forget(t *testing.T) {
	t.Helper()
	for _, id := range o.ids(t) {
		if err := o.ask(t, http.MethodDelete, "/instances/"+id, nil, nil); err != nil {
			t.Fatal(err)
		}
	}
}

// fill gives it the files, by HTTP.
func (o *orthancLab) fill(t *testing.T) {
	t.Helper()
	for _, f := range o.lab.files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := o.ask(t, http.MethodPost, "/instances", b, nil); err != nil {
			t.Fatal(err)
		}
	}
}

// knows enters a modality.
func (o *orthancLab) knows(t *testing.T, name, ae, own, port string, secure bool) {
	t.Helper()
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	err = o.ask(t, http.MethodPut, "/modalities/"+name, map[string]any{
		"AET": ae, "Host": "127.0.0.1", "Port": n, "UseDicomTls": secure, "LocalAet": own, "AllowStorageCommitment": true, "Timeout": 20,
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
}

// filled returns a run for which this Orthanc has the files.
func (o *orthancLab) filled(f func(t *testing.T, d door) (string, error)) func(*testing.T, door) (string, error) {
	return func(t *testing.T, d door) (string, error) {
		o.fill(t)
		return f(t, d)
	}
}

// user returns a run of Orthanc as the user of a service.
func (o *orthancLab) user(f func(t *testing.T, d door) (string, error)) func(*testing.T, door) (string, error) {
	return func(t *testing.T, d door) (string, error) {
		o.knows(t, "door", d.ae, d.device(), d.port, d.secure)
		return f(t, d)
	}
}

// device is the AE title of a device in this mode, so that a provider finds the way back.
func (d door) device() string {
	if d.mode.through() {
		return "CTPASSED"
	}
	return "CTDIRECT"
}

func (o *orthancLab) echoes(t *testing.T, _ door) (string, error) {
	return "0000", o.ask(t, http.MethodPost, "/modalities/door/echo", map[string]any{}, nil)
}

func (o *orthancLab) stores(t *testing.T, _ door) (string, error) {
	var done struct{ InstancesCount, FailedInstancesCount int }
	err := o.ask(t, http.MethodPost, "/modalities/door/store", map[string]any{"Resources": o.ids(t), "Synchronous": true}, &done)
	if err == nil && (done.InstancesCount != len(o.lab.files) || done.FailedInstancesCount != 0) {
		err = fmt.Errorf("%+v", done)
	}
	return "", err
}

// query asks for the study and returns the query's name.
func (o *orthancLab) query(t *testing.T) (id string, matches int, err error) {
	var made struct{ ID string }
	question := map[string]any{"Level": "Study", "Query": map[string]string{"StudyInstanceUID": o.lab.study}}
	if err := o.ask(t, http.MethodPost, "/modalities/door/query", question, &made); err != nil {
		return "", 0, err
	}
	var answers []string
	if err := o.ask(t, http.MethodGet, "/queries/"+made.ID+"/answers", nil, &answers); err != nil {
		return "", 0, err
	}
	if len(answers) == 0 {
		err = errors.New("nothing was found")
	}
	return made.ID, len(answers), err
}

func (o *orthancLab) finds(t *testing.T, _ door) (string, error) {
	_, n, err := o.query(t)
	return fmt.Sprintf("%d matches", n), err
}

func (o *orthancLab) moves(t *testing.T, d door) (string, error) {
	id, _, err := o.query(t)
	if err != nil {
		return "", err
	}
	return "", o.ask(t, http.MethodPost, "/queries/"+id+"/retrieve", map[string]any{"TargetAet": d.destination(), "Synchronous": true}, nil)
}

func (o *orthancLab) findsPlanned(t *testing.T, _ door) (string, error) {
	var answers []json.RawMessage
	err := o.ask(t, http.MethodPost, "/modalities/door/find-worklist", map[string]any{"PatientName": ""}, &answers)
	if err == nil && len(answers) == 0 {
		err = errors.New("nothing is planned")
	}
	return fmt.Sprintf("%d matches", len(answers)), err
}

// commits asks for what the provider has and for one object that it has not, and waits for the report.
func (o *orthancLab) commits(instance string) func(*testing.T, door) (string, error) {
	return func(t *testing.T, _ door) (string, error) {
		refer := func(uid string) map[string]string {
			return map[string]string{"SOPClassUID": ctStorage, "SOPInstanceUID": uid}
		}
		var asked struct{ ID string }
		err := o.ask(t, http.MethodPost, "/modalities/door/storage-commitment", map[string]any{
			"DicomInstances": []any{refer(instance), refer("1.2.3.4.5")}, "Timeout": 20,
		}, &asked)
		if err != nil {
			return "", err
		}
		var heard struct {
			Status            string
			Success, Failures []struct{ SOPInstanceUID string }
		}
		eventually(t, "the report is there", func() bool {
			err = o.ask(t, http.MethodGet, "/storage-commitment/"+asked.ID, nil, &heard)
			return err != nil || heard.Status != "Pending"
		})
		if err == nil && (len(heard.Success) != 1 || len(heard.Failures) != 1 || heard.Success[0].SOPInstanceUID != instance) {
			err = fmt.Errorf("the report is %+v", heard)
		}
		return "1 committed, 1 failed", err
	}
}

func orthancRows(l *matrixLab) []matrixRow {
	t := l.t
	plans := worklist(t)
	archive := l.orthanc("ORTHANC", false, map[string]any{
		"Plugins":   []string{"/usr/share/orthanc/plugins/libModalityWorklists.so"},
		"Worklists": map[string]any{"Enable": true, "Database": filepath.Join(plans, "WL")},
	})
	archive.fill(t)
	secure := l.orthanc("ORTHANCTLS", true, nil)
	device, store := l.orthanc("DEVICE", false, nil), l.orthanc("STORE", false, nil)
	device.fill(t)
	scp, wl := l.storescp(), l.worklistServer()
	ws, ports := l.workstation()
	qr := l.archiveOfDcmtk(ports)
	got, get := l.gets(t)
	for ae, p := range ports {
		archive.knows(t, ae, ae, "ORTHANC", p, false)
		secure.knows(t, ae, ae, "ORTHANCTLS", p, false)
	}
	back, _ := serve(t, loopback{}, l.gateways(t, &provider{address: device.address, ae: "CTPASSED"}, loopback{}, false))
	archive.knows(t, "CTDIRECT", "CTDIRECT", "ORTHANC", port(t, device.address), false)
	archive.knows(t, "CTPASSED", "CTPASSED", "ORTHANC", port(t, back), false)
	out, err := run(t, "dcmdump", "+P", "0008,0018", l.files[0])
	if err != nil {
		t.Fatal(err)
	}
	study := []string{"-S", "-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID"}
	files := func(name string) func(*testing.T, door) (string, error) { return l.does(name, "", l.files...) }
	return []matrixRow{
		{operation: "C-ECHO", programs: "echoscu → Orthanc", to: &archive.provider, queue: true, do: l.does("echoscu", "0000")},
		{operation: "C-STORE", programs: "storescu → Orthanc", to: &store.provider, queue: true, objects: true, do: files("storescu")},
		{operation: "C-STORE, RLE", programs: "storescu → Orthanc", to: &store.provider, queue: true, objects: true, do: l.does("storescu", "", append([]string{"-xr"}, l.compressed()...)...)},
		{operation: "C-STORE", programs: "storescu → Orthanc with TLS", to: &secure.provider, queue: true, objects: true, do: files("storescu")},
		{operation: "C-FIND", programs: "findscu → Orthanc with TLS", to: &secure.provider, do: secure.filled(l.finds(study...))},
		{operation: "C-FIND", programs: "findscu → Orthanc", to: &archive.provider, do: l.finds(study...)},
		{operation: "C-FIND, worklist", programs: "findscu → Orthanc", to: &archive.provider, do: l.finds(planned...)},
		{operation: "C-MOVE", programs: "movescu → Orthanc → storescp", to: &archive.provider, arrive: ws, queue: true, objects: true, plain: true, do: l.moves()},
		{operation: "C-MOVE", programs: "movescu → Orthanc with TLS → storescp", to: &secure.provider, arrive: ws, queue: true, objects: true, plain: true, do: secure.filled(l.moves())},
		{operation: "C-GET", programs: "getscu → Orthanc", to: &archive.provider, arrive: got, objects: true, plain: true, do: get},
		{operation: "C-ECHO", programs: "Orthanc → Orthanc", to: &archive.provider, queue: true, do: device.user(device.echoes)},
		{operation: "C-STORE", programs: "Orthanc → storescp", to: scp, queue: true, objects: true, do: device.user(device.stores)},
		{operation: "C-STORE", programs: "Orthanc → Orthanc", to: &store.provider, queue: true, objects: true, do: device.user(device.stores)},
		{operation: "C-STORE", programs: "Orthanc → Orthanc with TLS", to: &secure.provider, queue: true, objects: true, do: device.user(device.stores)},
		{operation: "C-FIND", programs: "Orthanc → dcmqrscp", to: qr, do: device.user(device.finds)},
		{operation: "C-FIND", programs: "Orthanc → Orthanc", to: &archive.provider, do: device.user(device.finds)},
		{operation: "C-FIND", programs: "Orthanc → Orthanc with TLS", to: &secure.provider, do: secure.filled(device.user(device.finds))},
		{operation: "C-FIND, worklist", programs: "Orthanc → wlmscpfs", to: wl, do: device.user(device.findsPlanned)},
		{operation: "C-MOVE", programs: "Orthanc → dcmqrscp → storescp", to: qr, arrive: ws, queue: true, objects: true, do: device.user(device.moves)},
		{operation: "C-MOVE", programs: "Orthanc → Orthanc → storescp", to: &archive.provider, arrive: ws, queue: true, objects: true, do: device.user(device.moves)},
		{operation: "storage commitment", programs: "Orthanc → Orthanc", to: &archive.provider, do: device.user(device.commits(between(out, "[", "]")))},
	}
}
