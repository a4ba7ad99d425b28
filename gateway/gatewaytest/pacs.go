//go:build lab

package gatewaytest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// PACS is a real archive in a namespace.
type PACS interface {
	// Objects are all it holds now and can be read; one that is still being written is left out.
	Objects() []Object
	// Count is how many it holds, or -1 while it does not answer.
	Count() int
	Stop(t testing.TB)
	// Start starts it again after Stop, with what it holds.
	Start(t testing.TB)
}

// storescp is DCMTK's archive: files in a folder.
type storescp struct {
	in      Namespace
	name    string
	aeTitle string
	port    int
	dir     string
	p       *Process
}

// Storescp starts DCMTK's storescp. It accepts every transfer syntax and writes data sets exactly as they came, each to a file of
// its own even when instances repeat.
func (n Namespace) Storescp(t testing.TB, name, aeTitle string, port int) PACS {
	t.Helper()
	s := &storescp{in: n, name: name, aeTitle: aeTitle, port: port, dir: filepath.Join(n.dir, name)}
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s.Start(t)
	return s
}

func (s *storescp) Start(t testing.TB) {
	t.Helper()
	s.p = s.in.Start(t, s.name, noDelay(),
		"storescp", "-v", "--fork", "-dhl", "-aet", s.aeTitle, "+xa", "+B", "+uf", "-pdu", "131072", "-od", s.dir, fmt.Sprint(s.port))
	s.in.waitForPort(t, s.name, s.port)
}

func (s *storescp) Objects() []Object {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil
	}
	var objects []Object
	for _, e := range entries {
		if o, err := ReadObject(filepath.Join(s.dir, e.Name())); err == nil {
			objects = append(objects, o)
		}
	}
	return objects
}

func (s *storescp) Count() int {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return -1
	}
	return len(entries)
}

func (s *storescp) Stop(t testing.TB) {
	t.Helper()
	s.p.Stop(t)
}

// orthanc is the Orthanc server.
type orthanc struct {
	in     Namespace
	name   string
	config string
	p      *Process
	http   *http.Client
	url    string
}

// Orthanc starts an Orthanc server with an empty database, plain as Debian has it: it stores what it is sent.
func (n Namespace) Orthanc(t testing.TB, name, aeTitle string, port, httpPort int) PACS {
	t.Helper()
	dir := filepath.Join(n.dir, name)
	config := map[string]any{
		"Name": name, "StorageDirectory": dir, "IndexDirectory": dir, "DicomAet": aeTitle, "DicomPort": port, "DicomCheckCalledAet": true,
		"DicomAlwaysAllowStore": true, "DicomAlwaysAllowEcho": true, "HttpPort": httpPort, "RemoteAccessAllowed": false, "AuthenticationEnabled": false,
		"Plugins": []string{}, "SaveJobs": false, "StableAge": 60,
	}
	data, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(n.dir, name+".json")
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
	o := &orthanc{in: n, name: name, config: file, url: fmt.Sprintf("http://127.0.0.1:%d", httpPort)}
	o.http = &http.Client{
		Timeout:   30 * time.Second,
		Transport: &http.Transport{DialContext: func(ctx context.Context, _, address string) (net.Conn, error) { return n.Dial(ctx, address) }},
	}
	t.Cleanup(o.http.CloseIdleConnections)
	o.Start(t)
	return o
}

func (o *orthanc) Start(t testing.TB) {
	t.Helper()
	o.p = o.in.Start(t, o.name, noDelay(), "Orthanc", o.config)
	Eventually(t, 60*time.Second, o.name+" answers", func() bool { return o.Count() >= 0 })
}

func (o *orthanc) get(path string) ([]byte, error) {
	r, err := o.http.Get(o.url + path)
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	data, err := io.ReadAll(r.Body)
	if err == nil && r.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", path, r.Status)
	}
	return data, err
}

func (o *orthanc) instances() ([]string, error) {
	data, err := o.get("/instances")
	if err != nil {
		return nil, err
	}
	var ids []string
	return ids, json.Unmarshal(data, &ids)
}

func (o *orthanc) Objects() []Object {
	ids, err := o.instances()
	if err != nil {
		return nil
	}
	var objects []Object
	for _, id := range ids {
		data, err := o.get("/instances/" + id + "/file")
		if err != nil {
			continue
		}
		if object, err := ParseObject(data); err == nil {
			objects = append(objects, object)
		}
	}
	return objects
}

func (o *orthanc) Count() int {
	ids, err := o.instances()
	if err != nil {
		return -1
	}
	return len(ids)
}

func (o *orthanc) Stop(t testing.TB) {
	t.Helper()
	o.p.Stop(t)
}

// waitForPort returns when something listens on a port of the namespace.
func (n Namespace) waitForPort(t testing.TB, what string, port int) {
	t.Helper()
	Eventually(t, 20*time.Second, fmt.Sprintf("%s listens on port %d", what, port), func() bool {
		return n.listens(port)
	})
}

// listens reports whether a TCP socket of the namespace listens on a port, without connecting to it.
func (n Namespace) listens(port int) bool {
	out, err := n.command(context.Background(), nil, []string{"ss", "-Hltn", fmt.Sprintf("sport = :%d", port)}).Output()
	return err == nil && len(out) > 0
}
