package dicom_test

import (
	"bytes"
	"crypto/sha256"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/towpath/towpath/proxy/dicom"
	"github.com/towpath/towpath/proxy/dicom/phantom"
)

// retrievalPeers are real archives that hold two phantom studies of different days, and know the AE title BOX.
func retrievalPeers(t *testing.T, boxPort string) map[string]dicom.QueryConfig {
	t.Helper()
	peers := map[string]dicom.QueryConfig{}
	address, _ := qrscp(t, map[string]string{"BOX": boxPort})
	peers["dcmqrscp"] = dicom.QueryConfig{Network: loopback{}, Target: address, CalledAE: "QRPACS", CallingAE: "BOX"}
	peers["Orthanc"] = dicom.QueryConfig{Network: loopback{}, Target: orthanc(t, "BOX", boxPort), CalledAE: "ORTHANC", CallingAE: "BOX"}
	for name, cfg := range peers {
		for seed, slices := range map[uint64]int{1: 3, 2: 5} {
			var objects []dicom.Object
			for s, err := range phantom.Study(phantom.Options{Slices: slices, Size: 64, Seed: seed}) {
				if err != nil {
					t.Fatal(err)
				}
				objects = append(objects, dicom.BytesObject(s.Name, s.Bytes))
			}
			to := dicom.StoreConfig{Network: loopback{}, Target: cfg.Target, CalledAE: cfg.CalledAE}
			if _, err := dicom.Store(t.Context(), to, objects, nil); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
	return peers
}

func TestQuerierAtRealPeers(t *testing.T) {
	q := &memoryQueue{}
	r, err := dicom.NewRouter(dicom.RouterConfig{Queue: q, Routes: []dicom.Route{{AETitle: "BOX", Mode: dicom.Queued, QueueName: "moved"}}})
	if err != nil {
		t.Fatal(err)
	}
	box, _ := serve(t, loopback{}, r)
	for name, cfg := range retrievalPeers(t, port(t, box)) {
		t.Run(name, func(t *testing.T) {
			c := dicom.NewQuerier(cfg)
			defer c.Close(t.Context())
			studies, err := c.Studies(t.Context(), dicom.WholeDay(phantomDay))
			if err != nil || len(studies) != 2 {
				t.Fatalf("%d studies, %v", len(studies), err)
			}
			none, err := c.Studies(t.Context(), dicom.WholeDay(phantomDay.AddDate(0, 0, 1)))
			if err != nil || len(none) != 0 {
				t.Fatalf("%d studies of another day, %v", len(none), err)
			}
			fetched := &memoryQueue{}
			for _, s := range studies {
				found, err := c.Instances(t.Context(), s.UID)
				if err != nil || s.Instances != -1 && len(found) != s.Instances || len(found) < 3 {
					t.Fatalf("%d of %d instances, %v", len(found), s.Instances, err)
				}
				var got []string
				out, err := c.Get(t.Context(), dicom.Selection{Study: s.UID}, []string{found[0].Class}, fetched, "q", func(uid string) { got = append(got, uid) })
				if err != nil || out.Failed != 0 || len(got) != len(found) {
					t.Fatalf("C-GET: %+v, %d stored, %v", out, len(got), err)
				}
				for _, f := range found {
					if !slices.Contains(got, f.UID) {
						t.Error("an object that was found was not fetched")
					}
				}
				one := dicom.Selection{Study: s.UID, Series: found[0].Series, Instances: []string{found[1].UID, found[2].UID}}
				got = nil
				if _, err := c.Get(t.Context(), one, []string{found[0].Class}, fetched, "q", func(uid string) { got = append(got, uid) }); err != nil || len(got) != 2 {
					t.Fatalf("C-GET of two objects: %d, %v", len(got), err)
				}
				if out, err := c.Move(t.Context(), dicom.Selection{Study: s.UID}, "BOX"); err != nil || out.Completed != len(found) {
					t.Fatalf("C-MOVE: %+v, %v", out, err)
				}
			}
			if _, err := c.Move(t.Context(), dicom.Selection{Study: studies[0].UID}, "NOBODY"); err == nil {
				t.Error("a destination that the archive does not know is no error")
			}
			want := map[[32]byte]int{}
			for seed, slices := range map[uint64]int{1: 3, 2: 5} {
				for s, err := range phantom.Study(phantom.Options{Slices: slices, Size: 64, Seed: seed}) {
					if err != nil {
						t.Fatal(err)
					}
					want[dataSetDigest(t, s.Bytes)]++
				}
			}
			for _, it := range fetched.items {
				if want[sha256.Sum256(it.payload)] == 0 {
					t.Error("a fetched object has other bytes")
				}
				if it.Meta.Attributes[dicom.AttrCallingAE] != cfg.CalledAE {
					t.Errorf("the object comes from %q", it.Meta.Attributes[dicom.AttrCallingAE])
				}
			}
		})
	}
	if len(q.items) != 16 {
		t.Errorf("%d objects came by C-MOVE, want 16", len(q.items))
	}
}

var phantomDay = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func dataSetDigest(t *testing.T, part10 []byte) [32]byte {
	t.Helper()
	_, data, err := dicom.ReadPart10(bytes.NewReader(part10))
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(data)
	if err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(b)
}
