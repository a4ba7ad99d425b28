package dicom_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/dicom"
	"github.com/towpath/towpath/proxy/dicom/dimse"
	"github.com/towpath/towpath/proxy/dicom/pdu"
	"github.com/towpath/towpath/proxy/proxytest"
)

// requestOf is an A-ASSOCIATE-RQ for storage in context 1 and verification in context 3.
func requestOf(t testing.TB, contexts ...pdu.ProposedContext) []byte {
	t.Helper()
	if contexts == nil {
		contexts = []pdu.ProposedContext{
			{ID: 1, AbstractSyntax: ctStorage, TransferSyntaxes: []string{explicit}},
			{ID: 3, AbstractSyntax: dicom.Verification, TransferSyntaxes: []string{implicit}},
			{ID: 5, AbstractSyntax: findStudy, TransferSyntaxes: []string{implicit}}, // not accepted
		}
	}
	b, err := (&pdu.AssociateRQ{
		ProtocolVersion: 1, CalledAE: "TOWPATH", CallingAE: "EVIL", ApplicationContext: pdu.ApplicationContext, Contexts: contexts,
	}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// pdv is a P-DATA-TF with one fragment.
func pdv(id uint8, command, last bool, payload []byte) []byte {
	b := make([]byte, pdu.DataOverhead)
	pdu.PutDataHeader(b, pdu.PDV{ContextID: id, Command: command, Last: last, Length: uint32(len(payload))})
	return append(b, payload...)
}

// command is a command set in one fragment.
func command(id uint8, set dimse.Set) []byte { return pdv(id, true, true, set.Encode()) }

func storeSet(change func(*dimse.Set)) dimse.Set {
	s := dimse.StoreRQ{MessageID: 1, SOPClass: ctStorage, SOPInstance: "1.2.3", HasDataSet: true}.Set()
	if change != nil {
		change(&s)
	}
	return s
}

var somePixels = pdv(1, false, true, []byte("pixels"))

// TestCommandsThatLie has a peer in good standing send messages that contradict themselves. It is answered with a status or an
// A-ABORT, within the times that are allowed, nothing of it is stored, and no half-written object is left.
func TestCommandsThatLie(t *testing.T) {
	element := func(tag uint16, n uint32, v string) []byte {
		b := binary.LittleEndian.AppendUint16([]byte{0, 0}, tag)
		return append(binary.LittleEndian.AppendUint32(b, n), v...)
	}
	const aborted, released = dimse.Status(0xFFFF), dimse.Status(0xFFFE)
	for name, tc := range map[string]struct {
		send   []byte
		status dimse.Status
	}{
		"no data set announced, one sent":     {append(command(1, storeSet(func(s *dimse.Set) { s.SetUS(dimse.TagDataSetType, 0x0101) })), somePixels...), 0xC000},
		"data set announced, command instead": {append(command(1, storeSet(nil)), command(1, storeSet(nil))...), aborted},
		"data set announced, release instead": {append(command(1, storeSet(nil)), pdu.EncodeReleaseRQ()...), released},
		"empty data set":                      {append(command(1, storeSet(nil)), pdv(1, false, true, nil)...), 0xC000},
		"data set in another context":         {append(command(1, storeSet(nil)), pdv(3, false, true, []byte("xx"))...), aborted},
		"command split over two contexts": {
			append(pdv(1, true, false, []byte{0, 0, 0, 0}), pdv(3, true, true, []byte("xx"))...), aborted,
		},
		"command in a refused context":     {command(5, storeSet(nil)), aborted},
		"command in a context never asked": {command(77, storeSet(nil)), aborted},
		"C-STORE as verification":          {append(command(3, storeSet(nil)), pdv(3, false, true, []byte("xx"))...), 0x0122},
		"C-STORE of verifications": {
			append(command(3, storeSet(func(s *dimse.Set) { s.SetUI(dimse.TagAffectedSOPClass, dicom.Verification) })), pdv(3, false, true, []byte("xx"))...), 0x0122,
		},
		"C-ECHO as storage": {command(1, dimse.EchoRQ{MessageID: 1, SOPClass: dicom.Verification}.Set()), 0x0211},
		"another SOP class": {
			append(command(1, storeSet(func(s *dimse.Set) { s.SetUI(dimse.TagAffectedSOPClass, "1.2.3") })), somePixels...), 0x0122,
		},
		"no SOP instance":          {append(command(1, storeSet(func(s *dimse.Set) { s.SetUI(dimse.TagAffectedSOPInstance, "") })), somePixels...), 0x0117},
		"a path as instance":       {append(command(1, storeSet(func(s *dimse.Set) { s.SetUI(dimse.TagAffectedSOPInstance, "../../etc") })), somePixels...), 0x0117},
		"an endless instance":      {append(command(1, storeSet(func(s *dimse.Set) { s.SetUI(dimse.TagAffectedSOPInstance, strings.Repeat("1.2", 500)) })), somePixels...), 0x0117},
		"an answer":                {command(1, dimse.Response{To: dimse.CStoreRQ, MessageID: 1}.Set()), aborted},
		"unknown command":          {command(1, storeSet(func(s *dimse.Set) { s.SetUS(dimse.TagCommandField, 0x0777); s.SetUS(dimse.TagDataSetType, 0x0101) })), 0x0211},
		"N-SET with data":          {append(command(1, storeSet(func(s *dimse.Set) { s.SetUS(dimse.TagCommandField, 0x0120) })), somePixels...), 0x0211},
		"not a command set":        {pdv(1, true, true, []byte("GET / HTTP/1.1\r\n\r\n")), aborted},
		"no command field":         {pdv(1, true, true, element(0x0800, 2, "\x01\x01")), aborted},
		"element of 4 GiB":         {pdv(1, true, true, element(0x0100, 0xFFFFFFFF, "\x01\x00")), aborted},
		"command field of 4 bytes": {pdv(1, true, true, element(0x0100, 4, "\x01\x00\x00\x00")), aborted},
		"command field twice":      {pdv(1, true, true, append(element(0x0100, 2, "\x01\x00"), element(0x0100, 2, "\x30\x00")...)), aborted},
		"another group":            {pdv(1, true, true, []byte{0x08, 0, 0x18, 0, 2, 0, 0, 0, '1', 0}), aborted},
		"20000 bytes of command":   {bytes.Repeat(pdv(1, true, false, make([]byte, 1000)), 20), aborted},
		"odd message control bits": {func() []byte { b := command(1, storeSet(nil)); b[11] = 0xFF; return append(b, somePixels...) }(), dimse.Success},
		"cancel of nothing":        {append(command(1, storeSet(func(s *dimse.Set) { s.SetUS(dimse.TagCommandField, 0x0FFF); s.SetUS(dimse.TagDataSetType, 0x0101) })), append(command(1, storeSet(nil)), somePixels...)...), dimse.Success},
		"wrong group length":       {append(pdv(1, true, true, func() []byte { s := storeSet(nil); b := s.Encode(); b[8] = 0xFF; return b }()), somePixels...), dimse.Success},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := newQueued(t, dicom.Limits{}, "TOWPATH")
				c := dialed(t, q)
				defer func() { _ = c.Close() }()
				write(t, c, requestOf(t))
				r := pdu.NewReader(c, pdu.Limits{})
				answered(t, r, pdu.TypeAssociateAC)
				go func() { _, _ = c.Write(tc.send) }()
				began := time.Now()
				h, err := r.Next()
				got := aborted
				switch {
				case err == nil && h.Type == pdu.TypeAbort:
				case err == nil && h.Type == pdu.TypeReleaseRP: // AR-2 in Sta6, which knows no messages
					got = released
				case err == nil && h.Type == pdu.TypeData:
					got = statusIn(t, r)
				default:
					t.Fatalf("answered with %s, %v", h.Type, err)
				}
				if got != tc.status {
					t.Errorf("answered with %s instead of %s", got, tc.status)
				}
				if took := time.Since(began); took > time.Minute {
					t.Errorf("answered after %v", took)
				}
				_ = c.Close()
				<-q.results
				if items, open := q.queue.state(); open != 0 || len(items) != map[bool]int{true: 1}[tc.status == dimse.Success] {
					t.Errorf("%d objects stored, %d left open", len(items), open)
				}
			})
		})
	}
}

func dialed(t *testing.T, q *queued) net.Conn {
	t.Helper()
	c, err := q.network.DialContext(t.Context(), "tcp", q.address)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func answered(t *testing.T, r *pdu.Reader, want pdu.Type) {
	t.Helper()
	h, err := r.Next()
	if err != nil || h.Type != want {
		t.Fatalf("answered with %s, %v instead of %s", h.Type, err, want)
	}
	if _, err := r.Whole(); err != nil {
		t.Fatal(err)
	}
}

// statusIn reads the command set of the P-DATA-TF that r is in.
func statusIn(t *testing.T, r *pdu.Reader) dimse.Status {
	t.Helper()
	v, err := r.NextPDV()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, v.Length)
	if _, err := io.ReadFull(r, b); err != nil {
		t.Fatal(err)
	}
	set, err := dimse.Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := dimse.ParseResponse(&set)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Status
}

// TestFloodsOfNegotiation asks for too much: each is refused or cut to size, quickly.
func TestFloodsOfNegotiation(t *testing.T) {
	many := func(contexts, syntaxes int) []pdu.ProposedContext {
		var out []pdu.ProposedContext
		for i := range contexts {
			pc := pdu.ProposedContext{ID: uint8(2*i + 1), AbstractSyntax: fmt.Sprintf("%s.%d", ctStorage, i)}
			for n := range syntaxes {
				pc.TransferSyntaxes = append(pc.TransferSyntaxes, fmt.Sprintf("1.2.840.10008.1.2.4.%d", n))
			}
			out = append(out, pc)
		}
		return out
	}
	full := requestOf(t, many(128, 60)...)
	// One more context item, spliced in by hand, for the encoder would refuse it.
	flooded := func(times int, item []byte) []byte {
		rq := requestOf(t)
		rq = append(rq, bytes.Repeat(item, times)...)
		binary.BigEndian.PutUint32(rq[2:], uint32(len(rq)-6))
		return rq
	}
	contextItem := []byte("\x20\x00\x00\x1d\x07\x00\x00\x00\x30\x00\x00\x051.2.3\x40\x00\x00\x0c1.2.840.1000")
	for name, tc := range map[string]struct {
		rq       []byte
		accepted bool
	}{
		"128 contexts with 60 syntaxes": {full, true},
		"129 contexts and more":         {flooded(200, contextItem), false},
		"10000 unknown items":           {flooded(10000, []byte{0x99, 0, 0, 0}), true},
		"too many bytes":                {flooded(70000, []byte{0x99, 0, 0, 0}), false},
		"two user informations":// the last one counts
		{flooded(2, append([]byte{0x50, 0, 1200 >> 8, 1200 & 0xFF}, bytes.Repeat([]byte{0x98, 0, 0, 0}, 300)...)), true},
		"600 user items": {flooded(1, append([]byte{0x50, 0, 2400 >> 8, 2400 & 0xFF}, bytes.Repeat([]byte{0x98, 0, 0, 0}, 600)...)), false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := newQueued(t, dicom.Limits{}, "TOWPATH")
				c := dialed(t, q)
				defer func() { _ = c.Close() }()
				go func() { _, _ = c.Write(tc.rq) }()
				want := pdu.TypeAbort
				if tc.accepted {
					want = pdu.TypeAssociateAC
				}
				answered(t, pdu.NewReader(c, pdu.Limits{}), want)
				_ = c.Close()
				<-q.results
			})
		})
	}
}

// TestManyBadPeersAtOnce opens 3000 connections from 300 addresses that stop or dawdle at every stage. The server keeps to its limits of
// connections, memory and time, and then serves a modality as if nothing had been.
func TestManyBadPeersAtOnce(t *testing.T) {
	const peers, sources, memory = 3000, 300, 64 << 20
	synctest.Test(t, func(t *testing.T) {
		n := proxytest.NewNetwork()
		queue := &memoryQueue{}
		r, err := dicom.NewRouter(dicom.RouterConfig{Queue: queue, Routes: []dicom.Route{{Mode: dicom.Queued, QueueName: "q"}}})
		if err != nil {
			t.Fatal(err)
		}
		l, err := n.Listen(t.Context(), "tcp", "127.0.0.1:11112")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan proxy.Session, peers)
		server := proxy.NewServer(proxy.ServerConfig{
			Name: "dicom", Listener: l, Handler: r, OnSession: func(s proxy.Session) { ended <- s },
		})
		done := make(chan error, 1)
		go func() { done <- server.Serve(ctx) }()
		before := heap()
		rq, object := requestOf(t), append(command(1, storeSet(nil)), pdv(1, false, false, make([]byte, 1000))...)
		stages := [][]byte{nil, rq[:3], rq[:70], rq, append(bytes.Clone(rq), object[:5]...), append(bytes.Clone(rq), object...)}
		var conns []net.Conn
		most := 0
		for i := range peers {
			from := n.From(netip.AddrFrom4([4]byte{192, 0, 2 + byte(i%sources/250), byte(i % sources % 250)}))
			c, err := from.DialContext(t.Context(), "tcp", "127.0.0.1:11112")
			if err != nil {
				t.Fatal(err)
			}
			conns = append(conns, c)
			_, _ = c.Write(stages[i%len(stages)]) // it may be turned away already
			if i%100 == 0 {
				synctest.Wait()
				most = max(most, live(server))
			}
		}
		synctest.Wait()
		if used := heap() - before; used > memory {
			t.Errorf("%d MiB for %d connections", used>>20, peers)
		}
		if most = max(most, live(server)); most > proxy.DefaultMaxConns || most < proxy.DefaultMaxConns/2 {
			t.Errorf("%d connections at once", most)
		}
		time.Sleep(11 * time.Minute) // fake time; the longest patience is for an association that says nothing between two messages
		synctest.Wait()
		if live := live(server); live != 0 {
			t.Errorf("%d bad peers are still there", live)
		}
		a := associate(t, n, "127.0.0.1:11112", "TOWPATH", context1(ctStorage, explicit))
		if resp := call(t, a, 1, storeSet(nil), strings.NewReader("pixels")); resp.Status != dimse.Success {
			t.Errorf("a modality is answered with %s", resp.Status)
		}
		if err := a.Release(t.Context()); err != nil {
			t.Error(err)
		}
		if items, open := queue.state(); len(items) != 1 || open != 0 {
			t.Errorf("%d objects, %d left open", len(items), open)
		}
		for _, c := range conns {
			_ = c.Close()
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// live is how many connections a server serves now.
func live(s *proxy.Server) int { return len(s.Sessions()) }

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// FuzzRouter feeds any bytes to a queued route, from the first one on: it must come to an end, store nothing but a whole object, and
// leave nothing half written.
func FuzzRouter(f *testing.F) {
	rq := requestOf(f)
	whole := append(append(bytes.Clone(rq), command(1, storeSet(nil))...), somePixels...)
	f.Add(rq)
	f.Add(whole)
	f.Add(append(bytes.Clone(whole), pdu.EncodeReleaseRQ()...))
	f.Add(append(bytes.Clone(whole), whole[len(rq):]...))
	f.Add(append(bytes.Clone(rq), command(3, dimse.EchoRQ{MessageID: 1, SOPClass: dicom.Verification}.Set())...))
	report := dimse.EventReportRQ{MessageID: 1, SOPClass: dicom.StorageCommitment, SOPInstance: "1.2", Event: 1}.Set()
	f.Add(append(append(requestOf(f, pdu.ProposedContext{ID: 1, AbstractSyntax: dicom.StorageCommitment, TransferSyntaxes: []string{implicit}}),
		command(1, report)...), pdv(1, false, true, implicitUI(0x0008, 0x1195, "1.2.3"))...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 32<<10 {
			return // more than the pipe holds
		}
		q := &memoryQueue{}
		r, err := dicom.NewRouter(dicom.RouterConfig{
			Queue: q, Routes: []dicom.Route{{Mode: dicom.Queued, QueueName: "q"}}, Commitments: dicom.NewCommitments(),
			Limits: dicom.Limits{Close: time.Millisecond, MaxObject: 4 << 10},
		})
		if err != nil {
			t.Fatal(err)
		}
		near, far := proxytest.Pipe(netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("192.0.2.2:104"))
		_, _ = near.Write(b)
		_ = near.CloseWrite()
		go func() { _, _ = io.Copy(io.Discard, near) }()
		res := r.Serve(t.Context(), far)
		_ = far.Close()
		items, open := q.state()
		if open != 0 || len(items) != res.Items {
			t.Fatalf("%d objects stored, %d counted, %d left open", len(items), res.Items, open)
		}
		for _, it := range items {
			if len(it.payload) == 0 || len(it.payload) > len(b) {
				t.Fatalf("an object of %d bytes out of %d", len(it.payload), len(b))
			}
		}
	})
}
