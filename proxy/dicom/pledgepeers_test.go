package dicom_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/towpath/towpath/proxy/dicom"
	"github.com/towpath/towpath/proxy/spool"
)

// orthancDevice runs Orthanc as a device that stores to one peer and asks it for commitment. It is driven by HTTP.
func orthancDevice(t *testing.T, peer, peerPort string) (dicomPort, api string) {
	t.Helper()
	dir, p, h := t.TempDir(), freePort(t), freePort(t)
	number := func(s string) int { n, _ := strconv.Atoi(s); return n }
	b, err := json.Marshal(map[string]any{
		"Name": "device", "StorageDirectory": dir, "IndexDirectory": dir, "DicomAet": "CTORTHANC", "DicomPort": number(p), "HttpPort": number(h),
		"RemoteAccessAllowed": true, "AuthenticationEnabled": false, "HttpServerEnabled": true, "Plugins": []string{}, "SaveJobs": false,
		"DicomAlwaysAllowEcho": true, "DicomCheckCalledAet": false, "DicomAlwaysAllowStore": true,
		"DicomModalities": map[string]any{"box": map[string]any{
			"AET": peer, "Host": "127.0.0.1", "Port": number(peerPort), "AllowStorageCommitment": true,
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "orthanc.json")
	if err := os.WriteFile(config, b, 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, "CTORTHANC", p, "Orthanc", config)
	return p, "http://127.0.0.1:" + h
}

// rest asks Orthanc's HTTP interface.
func rest(t *testing.T, method, url string, body []byte, out any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s", method, url, resp.Status)
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		t.Fatal(err)
	}
}

// TestOrthancCommitsThroughTheQueue has one Orthanc as a device and one as the archive: the device hears of success only after the archive has
// committed, on an association that the gateway opens to it, and the archive reports on one that it opens to the gateway.
func TestOrthancCommitsThroughTheQueue(t *testing.T) {
	tool(t, "Orthanc")
	q, err := spool.Open(t.TempDir(), spool.Options{MinFreeBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = q.Close() }()
	pledges, err := dicom.OpenPledges(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	commitments := dicom.NewCommitments()
	r, err := dicom.NewRouter(dicom.RouterConfig{
		Queue: q, Commitments: commitments, Reports: []string{"BOX"},
		Routes: []dicom.Route{{Service: "images", AETitle: "PACS", Mode: dicom.Queued, QueueName: "q", Pledges: pledges}},
	})
	if err != nil {
		t.Fatal(err)
	}
	here, _ := serve(t, loopback{}, r)
	archive := orthanc(t, "BOX", port(t, here))
	devicePort, api := orthancDevice(t, "PACS", port(t, here))
	number, err := strconv.Atoi(devicePort)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		pledges.Work(ctx, func() dicom.PledgeWork {
			return dicom.PledgeWork{
				Network: loopback{}, Target: archive, CalledAE: "ORTHANC", AskingAE: "BOX", Commitments: commitments, Devices: loopback{},
				Address: dicom.ReportAddress(number), Items: func(limit int) ([]spool.Item, error) { return q.List("q", limit) },
			}
		})
	}()
	defer func() { cancel(); <-done; _ = pledges.Close() }()

	// The device stores two objects and asks.
	var ids []string
	for _, file := range samples(t)[:2] {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var stored struct{ ID string }
		rest(t, http.MethodPost, api+"/instances", b, &stored)
		ids = append(ids, stored.ID)
	}
	body, err := json.Marshal(map[string]any{"Resources": ids, "StorageCommitment": true, "Synchronous": true})
	if err != nil {
		t.Fatal(err)
	}
	var job struct{ InstancesCount int }
	rest(t, http.MethodPost, api+"/modalities/box/store", body, &job)
	eventually(t, "the request is kept", func() bool { return pledges.Counts().Waiting == 1 })
	if n := q.Stats(); len(n) != 1 || n[0].Queued != 2 {
		t.Fatalf("%+v", n)
	}

	// Only now the archive gets them.
	sink := dicom.NewSink(dicom.SinkConfig{Network: loopback{}, Target: archive, CalledAE: "ORTHANC", Commitments: commitments})
	defer sink.Idle()
	for range 2 {
		l, err := q.Next(t.Context(), "q")
		if err != nil {
			t.Fatal(err)
		}
		f, err := l.Open()
		if err != nil {
			t.Fatal(err)
		}
		receipt, err := sink.Deliver(t.Context(), l.Item(), f)
		if err != nil || f.Close() != nil || l.Done(receipt) != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the device has heard", func() bool { return pledges.Counts().Told == 1 })
	if n := pledges.Counts(); n.Failures != 0 || n.Waiting+n.Untold != 0 {
		t.Errorf("%+v", n)
	}
	// What the device itself thinks of it.
	var jobs []string
	rest(t, http.MethodGet, api+"/jobs", nil, &jobs)
	var content struct {
		Content struct{ StorageCommitmentTransactionUID string }
	}
	rest(t, http.MethodGet, api+"/jobs/"+jobs[len(jobs)-1], nil, &content)
	uid := content.Content.StorageCommitmentTransactionUID
	if !strings.Contains(uid, ".") {
		t.Fatalf("the device's transaction is %q", uid)
	}
	var heard struct {
		Status  string
		Success []struct{ SOPInstanceUID string }
	}
	rest(t, http.MethodGet, api+"/storage-commitment/"+uid, nil, &heard)
	if heard.Status != "Success" || len(heard.Success) != 2 {
		t.Errorf("the device says %+v", heard)
	}
}
