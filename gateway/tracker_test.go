package gateway

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/gateway/localapi"
	"github.com/towpath/towpath/gateway/state"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/proxy/dicom"
	"github.com/towpath/towpath/proxy/spool"
	"github.com/towpath/towpath/proxy/transfer"
)

const (
	tracedStudy = "1.2.840.99999.4711"
	tracedOther = "1.2.840.99999.4712"
)

// runBox runs a gateway until the test ends and returns its local API.
func runBox(t *testing.T, b *box) *localapi.Client {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	c := localapi.NewClient(b.opt.Dir.Path(state.SocketFile))
	for deadline := time.Now().Add(10 * time.Second); ; {
		if _, err := c.Stats(ctx); err == nil {
			return c
		}
		if time.Now().After(deadline) {
			t.Fatal("the gateway does not answer")
		}
	}
}

func putObject(t *testing.T, s *spool.Spool, queue, study, uid string, more map[string]string) spool.Item {
	t.Helper()
	a := map[string]string{
		dicom.AttrSOPClass: "1.2.840.10008.5.1.4.1.1.2", dicom.AttrSOPInstance: uid, dicom.AttrStudyInstance: study, dicom.AttrCallingAE: "CT1\x1b",
		dicom.AttrSource: "192.168.10.7", dicom.AttrAssociation: "A1",
	}
	maps.Copy(a, more)
	w, err := s.Create(spool.Meta{Queue: queue, Attributes: a})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("pixels")); err != nil {
		t.Fatal(err)
	}
	it, err := w.Commit()
	if err != nil {
		t.Fatal(err)
	}
	return it
}

func lease(t *testing.T, s *spool.Spool, queue string) spool.Lease {
	t.Helper()
	l, err := s.Next(t.Context(), queue)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestTrace follows objects from the device to the archive, each to another end, over the local API, and looks whether their UIDs are anywhere but in
// the queue.
func TestTrace(t *testing.T) {
	b := newBox(t)
	b.plan.Peers = []wire.Peer{{Node: "node_c", Site: "center"}}
	q := b.opt.Spool
	delivered := putObject(t, q, "dicom.pacs", tracedStudy, tracedStudy+".1", nil)
	at := time.Now().Add(time.Minute).UTC().Truncate(time.Second)
	if err := lease(t, q, "dicom.pacs").Carried(spool.Receipt{At: at, Peer: "node_c"}); err != nil {
		t.Fatal(err)
	}
	if err := q.Resolve(delivered.ID, spool.Done(spool.Receipt{At: at.Add(time.Second), Peer: "PACS", Code: "0000"})); err != nil {
		t.Fatal(err)
	}
	putObject(t, q, "dicom.pacs", tracedStudy, tracedStudy+".2", nil)
	if err := lease(t, q, "dicom.pacs").Park(errors.New("PACS refused the object with status C000")); err != nil {
		t.Fatal(err)
	}
	dropped := putObject(t, q, "dicom.pacs", tracedStudy, tracedStudy+".3", nil)
	if err := q.Drop(dropped.ID); err != nil {
		t.Fatal(err)
	}
	putObject(t, q, "dicom.pacs", tracedStudy, tracedStudy+".4", nil)
	sending := lease(t, q, "dicom.pacs")
	waits := putObject(t, q, "dicom.pacs", tracedStudy, tracedStudy+".5", map[string]string{dicom.AttrAssociation: "A2"})
	putObject(t, q, "in.his-pacs", tracedOther, tracedOther+".1", map[string]string{transfer.AttributeNode: "node_c"})

	c := runBox(t, b)
	ctx := t.Context()
	if n, err := c.PrioritizeStudy(ctx, tracedStudy, true); err != nil || n != 3 {
		t.Errorf("%d objects of the study were made urgent: %v", n, err)
	}
	trace := func(uid string) localapi.Trace {
		t.Helper()
		tr, err := c.Trace(ctx, uid)
		if err != nil || tr.Damaged != 0 || len(tr.Items) > 1 {
			t.Fatalf("trace: %+v, %v", tr, err)
		}
		return tr
	}
	for n, want := range map[string]string{
		".1": localapi.StateDelivered, ".2": localapi.StateParked, ".3": localapi.StateDropped, ".4": localapi.StateSending, ".5": localapi.StateWaiting,
	} {
		tr := trace(tracedStudy + n)
		if len(tr.Items) != 1 || len(tr.Studies) != 0 {
			t.Fatalf("%s: %+v", n, tr)
		}
		i := tr.Items[0]
		if i.State != want || i.Service != "pacs" || i.Calling != "CT1?" || i.Address.String() != "192.168.10.7" || i.Size != 6 || i.Taken.IsZero() || i.From != "" || len(i.Study) != 16 {
			t.Errorf("%s: %+v", n, i)
		}
		switch n {
		case ".1":
			if !i.Carried.Equal(at) || i.To != "center" || !i.Delivered.Equal(at.Add(time.Second)) || i.Receiver != "PACS" || i.Code != "0000" {
				t.Errorf("delivered: %+v", i)
			}
		case ".2":
			if i.Parked.IsZero() || i.Attempts != 1 || !strings.Contains(i.Reason, "C000") {
				t.Errorf("parked: %+v", i)
			}
		case ".5":
			if i.Item != string(waits.ID) || !i.Urgent {
				t.Errorf("waiting: %+v", i)
			}
		}
	}
	if i := trace(tracedOther + ".1").Items[0]; i.From != "center" || i.Service != "his-pacs" {
		t.Errorf("at the center: %+v", i)
	}
	if tr := trace(tracedStudy + ".6"); tr.Known() {
		t.Errorf("something unknown is known: %+v", tr)
	}
	checkStudies(t, c, trace(tracedStudy).Studies)
	if err := sending.Retry(spool.ErrCalledOff); err != nil {
		t.Fatal(err)
	}
	noUIDs(t, b)
}

func checkStudies(t *testing.T, c *localapi.Client, traced []localapi.Study) {
	t.Helper()
	all, err := c.Studies(t.Context(), "")
	if err != nil || len(all) != 2 {
		t.Fatalf("studies: %+v, %v", all, err)
	}
	one, err := c.Studies(t.Context(), "pacs")
	if err != nil || len(one) != 1 || len(traced) != 1 || traced[0].Study != one[0].Study {
		t.Fatalf("of one service: %+v, traced %+v, %v", one, traced, err)
	}
	s := one[0]
	s.First, s.Last, s.Study, s.Callers, s.Reasons = time.Time{}, time.Time{}, "", nil, nil
	want := localapi.Study{
		Service: "pacs", Queue: "dicom.pacs", Associations: 2, Objects: 5, Bytes: 30, Waiting: 1, Sending: 1, Delivered: 1, Parked: 1, Dropped: 1, Urgent: 3,
	}
	if s.Sending != want.Sending || s.Waiting != want.Waiting || s.Parked != want.Parked || s.Delivered != want.Delivered || s.Dropped != want.Dropped ||
		s.Objects != want.Objects || s.Bytes != want.Bytes || s.Associations != want.Associations || s.Urgent != want.Urgent || s.InDoubt != 0 || s.Carried != 0 {
		t.Errorf("the study is %+v, not %+v", s, want)
	}
	if len(one[0].Callers) != 1 || one[0].Callers[0] != "CT1? at 192.168.10.7" || len(one[0].Reasons) != 1 {
		t.Errorf("callers %q, reasons %q", one[0].Callers, one[0].Reasons)
	}
}

// noUIDs looks into every file of the box but the queue's.
func noUIDs(t *testing.T, b *box) {
	t.Helper()
	searched := 0
	err := filepath.WalkDir(b.opt.Dir.Path(""), func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == state.SpoolDir:
			return fs.SkipDir
		case !d.Type().IsRegular():
			return nil
		}
		content, err := os.ReadFile(path)
		if bytes.Contains(content, []byte("99999.471")) {
			t.Errorf("a UID is in %s", path)
		}
		if strings.Contains(path, state.HistoryDir) && len(content) > 0 {
			searched++
		}
		return err
	})
	if err != nil || searched == 0 {
		t.Errorf("%d files of the history were searched: %v", searched, err)
	}
}
