package dicom_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/dicom"
	"github.com/towpath/towpath/proxy/spool"
)

// cutting is a loopback that loses the answer to what was sent before the word was given, and cuts the connection after it: what was sent has
// arrived and been answered. It is not cut before: dcmtk removes an object that it cannot answer for, but leaves it in its index.
type cutting struct {
	loopback
	armed atomic.Bool
}

func (c *cutting) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := c.loopback.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &cutConn{Conn: conn, armed: &c.armed}, nil
}

type cutConn struct {
	net.Conn
	armed *atomic.Bool
}

func (c *cutConn) Read(b []byte) (int, error) {
	if !c.armed.CompareAndSwap(true, false) {
		return c.Conn.Read(b)
	}
	defer func() { _ = c.Conn.Close() }()
	head := make([]byte, 6) // type, reserved, and the length of the rest (PS3.8 §9.3.1)
	if _, err := io.ReadFull(c.Conn, head); err != nil {
		return 0, fmt.Errorf("no answer to lose: %w", err)
	}
	if _, err := io.CopyN(io.Discard, c.Conn, int64(binary.BigEndian.Uint32(head[2:]))); err != nil {
		return 0, fmt.Errorf("no whole answer to lose: %w", err)
	}
	return 0, errors.New("the line is cut")
}

// qrscp runs dcmtk's archive. It knows the AE titles of destinations, each with a port of the loopback interface.
func qrscp(t *testing.T, destinations map[string]string) (address, storage string) {
	t.Helper()
	work, p := t.TempDir(), freePort(t)
	storage = filepath.Join(work, "store")
	if err := os.Mkdir(storage, 0o700); err != nil {
		t.Fatal(err)
	}
	hosts := ""
	for ae, port := range destinations {
		hosts += fmt.Sprintf("host_%s = (%s, 127.0.0.1, %s)\n", ae, ae, port)
	}
	config := filepath.Join(work, "dcmqrscp.cfg")
	text := fmt.Sprintf("MaxPDUSize = 16384\nMaxAssociations = 16\nHostTable BEGIN\n%sHostTable END\n"+
		"VendorTable BEGIN\nVendorTable END\nAETable BEGIN\nQRPACS %s RW (200, 1024mb) ANY\nAETable END\n", hosts, storage)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return start(t, "QRPACS", p, "dcmqrscp", "-c", config, p), storage
}

// orthanc runs Orthanc, which knows one modality that it reports storage commitments to.
func orthanc(t *testing.T, modality, modalityPort string) (address string) {
	t.Helper()
	dir, p := t.TempDir(), freePort(t)
	number := func(s string) int {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	b, err := json.Marshal(map[string]any{
		"Name": "test", "StorageDirectory": dir, "IndexDirectory": dir, "DicomAet": "ORTHANC", "DicomPort": number(p),
		"DicomAlwaysAllowStore": true, "DicomAlwaysAllowEcho": true, "DicomAlwaysAllowFind": true, "DicomAlwaysAllowGet": true,
		"DicomAlwaysAllowMove": true, "HttpServerEnabled": false, "Plugins": []string{}, "SaveJobs": false,
		"DicomModalities": map[string]any{"m": map[string]any{
			"AET": modality, "Host": "127.0.0.1", "Port": number(modalityPort), "AllowStorageCommitment": true,
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "orthanc.json")
	if err := os.WriteFile(config, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return start(t, "ORTHANC", p, "Orthanc", config)
}

// phantomItem is one slice of a phantom as an item of a queue.
func phantomItem(t *testing.T, n int) (spool.Item, []byte) {
	t.Helper()
	f, err := study(t, n+1, 64)[n].Open()
	if err != nil {
		t.Fatal(err)
	}
	meta, data, err := dicom.ReadPart10(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(data)
	if err != nil {
		t.Fatal(err)
	}
	it := item("TOWPATH", meta.SOPClass, meta.TransferSyntax, meta.SOPInstance)
	it.ID = spool.ID(fmt.Sprintf("%016x", n))
	return it, b
}

// inDoubtAtPeer stores one object in peace and one whose answer is lost with the line, and has the Sink find out.
func inDoubtAtPeer(t *testing.T, cfg dicom.SinkConfig) dicom.LedgerCounts {
	t.Helper()
	network := &cutting{}
	ledger, err := dicom.OpenLedger(filepath.Join(t.TempDir(), "q.ledger"), dicom.LedgerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ledger.Close() }()
	cfg.Network, cfg.Ledger, cfg.SettleTime = network, ledger, time.Second
	s := dicom.NewSink(cfg)
	defer s.Idle()
	for n := range 2 {
		it, data := phantomItem(t, n)
		network.armed.Store(false)
		first := io.Reader(bytes.NewReader(data))
		if n == 1 {
			first = io.MultiReader(first, armed{network})
		}
		_, err := s.Deliver(t.Context(), it, first)
		if (err != nil) != (n == 1) || network.armed.Load() {
			t.Fatalf("object %d: %v", n, err)
		}
		deadline := time.Now().Add(30 * time.Second)
		for tick := time.NewTicker(300 * time.Millisecond); err != nil; <-tick.C {
			if _, err = s.Deliver(t.Context(), it, bytes.NewReader(data)); err != nil && time.Now().After(deadline) {
				t.Fatal(err)
			}
		}
	}
	return ledger.Counts()
}

// armed gives the word when the data set has been read to its end.
type armed struct{ n *cutting }

func (a armed) Read([]byte) (int, error) {
	a.n.armed.Store(true)
	return 0, io.EOF
}

func TestDcmtkInDoubtIsFound(t *testing.T) {
	address, storage := qrscp(t, nil)
	c := inDoubtAtPeer(t, dicom.SinkConfig{Target: address, CalledAE: "QRPACS"})
	if c.FoundPresent != 1 || c.FoundAbsent != 0 || c.Resent != 0 || c.Delivered != 2 {
		t.Errorf("%+v", c)
	}
	if entries, err := os.ReadDir(storage); err != nil || len(entries) != 3 { // with the index
		t.Errorf("%d files are there, %v", len(entries), err)
	}
}

func TestOrthancInDoubtIsFound(t *testing.T) {
	tool(t, "Orthanc")
	commitments := dicom.NewCommitments()
	r, err := dicom.NewRouter(dicom.RouterConfig{
		Queue: &memoryQueue{}, Routes: []dicom.Route{{Mode: dicom.Queued, QueueName: "q"}}, Commitments: commitments,
	})
	if err != nil {
		t.Fatal(err)
	}
	here, results := serve(t, loopback{}, r)
	address := orthanc(t, "TOWPATH", port(t, here))
	c := inDoubtAtPeer(t, dicom.SinkConfig{
		Target: address, CalledAE: "ORTHANC", Commitments: commitments, AskingAE: "TOWPATH", ReportWait: 20 * time.Second,
	})
	if c.FoundPresent != 1 || c.FoundAbsent != 0 || c.Resent != 0 || c.Delivered != 2 {
		t.Errorf("%+v", c)
	}
	if res := <-results; res.Calling != "ORTHANC" || res.Outcome != proxy.OutcomeDone {
		t.Errorf("the report's association ended with %+v", res)
	}
}

// TestDcmtkOddLengthIsParked sends data sets of odd length, on which dcmtk breaks the association off, between good ones: they must not be
// tried for ever.
func TestDcmtkOddLengthIsParked(t *testing.T) {
	address, _ := storescp(t)
	s := dicom.NewSink(dicom.SinkConfig{
		Network: loopback{}, Target: address, CalledAE: "ANY", SettleTime: time.Millisecond,
		Patience: dicom.Patience{Tries: 3, Span: time.Nanosecond},
	})
	defer s.Idle()
	odd, data := phantomItem(t, 0)
	var err error
	tries := 0
	for n := 1; n < 10; n++ {
		if tries++; isPermanent(err) {
			break
		}
		_, err = s.Deliver(t.Context(), odd, bytes.NewReader(append(bytes.Clone(data), 0)))
		it, data := phantomItem(t, n)
		if _, err := s.Deliver(t.Context(), it, bytes.NewReader(data)); err != nil {
			t.Fatalf("a good object after it: %v", err)
		}
	}
	if !isPermanent(err) {
		t.Errorf("after %d tries: %v", tries, err)
	}
	t.Logf("parked: %v", err)
}
