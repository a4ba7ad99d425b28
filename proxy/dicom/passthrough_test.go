package dicom_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/dicom"
	"github.com/towpath/towpath/proxy/dicom/pdu"
	"github.com/towpath/towpath/proxy/dicom/ul"
	"github.com/towpath/towpath/proxy/proxytest"
)

const farAddress = "198.51.100.7:104"

// oddRQ is an association request with things in it that we do not know: they must arrive.
func oddRQ(t *testing.T) []byte {
	t.Helper()
	rq := &pdu.AssociateRQ{
		ProtocolVersion: 3, CalledAE: "PACS", CallingAE: "WS1", ApplicationContext: "1.2.3.4",
		Contexts: []pdu.ProposedContext{{ID: 251, AbstractSyntax: findStudy, TransferSyntaxes: []string{implicit}}},
		UserInfo: pdu.UserInfo{
			MaxLength: 12345, ImplementationClass: "1.2.3.4.5", ImplementationVersion: "ODD_1", Async: &pdu.AsyncWindow{Invoked: 16, Performed: 8},
			Roles:    []pdu.Role{{SOPClass: ctStorage, SCU: true, SCP: true}},
			Extended: []pdu.Extended{{SOPClass: findStudy, Info: []byte{1, 1, 0, 1}}},
			Identity: &pdu.UserIdentity{Type: 2, ResponseRequested: true, Primary: []byte("user"), Secondary: []byte("passcode")},
			Unknown:  []pdu.Item{{Type: 0x57, Data: []byte("common")}, {Type: 0x99, Data: []byte("?")}},
		},
	}
	b, err := rq.Encode()
	if err != nil {
		t.Fatal(err)
	}
	copy(b[42:], "reserved but used") // the 32 reserved bytes
	return b
}

// passing is a Router with one pass-through route, a near connection to it and the listener of the far side.
type passing struct {
	near    net.Conn
	far     net.Listener
	results <-chan proxy.Result
	network *proxytest.Network
}

func newPassing(ctx context.Context, t *testing.T, cfg dicom.RouterConfig) *passing {
	t.Helper()
	n := proxytest.NewNetwork()
	cfg.Routes = []dicom.Route{{Service: "PACS", AETitle: "PACS", Mode: dicom.PassThrough, Network: n, Target: farAddress}}
	cfg.Limits.Close = 10 * time.Millisecond
	r, err := dicom.NewRouter(cfg)
	if err != nil {
		t.Fatal(err)
	}
	address, results := serve(t, n, proxy.HandlerFunc(func(_ context.Context, c net.Conn) proxy.Result { return r.Serve(ctx, c) }))
	far, err := n.Listen(t.Context(), "tcp", farAddress)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = far.Close() })
	near, err := n.DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = near.Close() })
	return &passing{near: near, far: far, results: results, network: n}
}

func read(t *testing.T, c net.Conn, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(c, b); err != nil {
		t.Fatalf("after %d bytes wanted: %v", n, err)
	}
	return b
}

func write(t *testing.T, c net.Conn, b []byte) {
	t.Helper()
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
}

func TestPassThroughChangesNothing(t *testing.T) {
	p := newPassing(t.Context(), t, dicom.RouterConfig{})
	rq, early := oddRQ(t), []byte("written too early")
	write(t, p.near, append(bytes.Clone(rq), early...))
	far, err := p.far.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if got := read(t, far, len(rq)+len(early)); !bytes.Equal(got, append(rq, early...)) {
		t.Error("the request arrives changed")
	}
	odd := pdu.UserInfo{Async: &pdu.AsyncWindow{Invoked: 4, Performed: 1}, IdentityResponse: []byte("ticket"), Unknown: []pdu.Item{{Type: 0x98, Data: []byte("!")}}}
	ac, err := (&pdu.AssociateAC{ProtocolVersion: 1, UserInfo: odd}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	write(t, far, append(bytes.Clone(ac), "and more"...))
	if got := read(t, p.near, len(ac)+8); !bytes.Equal(got, append(ac, "and more"...)) {
		t.Error("the answer arrives changed")
	}
	blob := bytes.Repeat([]byte{0, 1, 2, 3, 0xFF}, 100000)
	for _, way := range []struct{ from, to net.Conn }{{p.near, far}, {far, p.near}} {
		go func() { _, _ = way.from.Write(blob) }()
		if got := read(t, way.to, len(blob)); !bytes.Equal(got, blob) {
			t.Error("bytes arrive changed")
		}
	}
	_ = far.Close()
	if _, err := p.near.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the end arrives as %v", err)
	}
	_ = p.near.Close()
	if res := <-p.results; res.Calling != "WS1" || res.Called != "PACS" {
		t.Errorf("result %+v", res)
	}
}

// TestPassThroughHalfClose ends one direction and sends through the other.
func TestPassThroughHalfClose(t *testing.T) {
	p := newPassing(t.Context(), t, dicom.RouterConfig{})
	rq := oddRQ(t)
	write(t, p.near, rq)
	far, err := p.far.Accept()
	if err != nil {
		t.Fatal(err)
	}
	read(t, far, len(rq))
	ac, _ := (&pdu.AssociateAC{}).Encode()
	write(t, far, ac)
	read(t, p.near, len(ac))
	write(t, p.near, pdu.EncodeReleaseRQ())
	if err := p.near.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(far); err != nil || !bytes.Equal(b, pdu.EncodeReleaseRQ()) {
		t.Errorf("the far side reads %x, %v", b, err)
	}
	write(t, far, pdu.EncodeReleaseRP())
	_ = far.Close()
	if b, err := io.ReadAll(p.near); err != nil || !bytes.Equal(b, pdu.EncodeReleaseRP()) {
		t.Errorf("the near side reads %x, %v", b, err)
	}
	if res := <-p.results; res.Outcome != proxy.OutcomeDone || res.Detail != "" {
		t.Errorf("result %+v", res)
	}
}

func TestPassThroughForwardsARejection(t *testing.T) {
	p := newPassing(t.Context(), t, dicom.RouterConfig{})
	rq := oddRQ(t)
	write(t, p.near, rq)
	far, err := p.far.Accept()
	if err != nil {
		t.Fatal(err)
	}
	read(t, far, len(rq))
	rj := pdu.AssociateRJ{Result: 1, Source: 1, Reason: 3}.Encode()
	write(t, far, rj)
	_ = far.Close()
	if b, err := io.ReadAll(p.near); err != nil || !bytes.Equal(b, rj) {
		t.Errorf("the near side reads %x, %v", b, err)
	}
	_ = p.near.Close()
	if res := <-p.results; res.Outcome != proxy.OutcomeRefused || !strings.Contains(res.Detail, "1/1/3") {
		t.Errorf("result %+v", res)
	}
}

// TestPassThroughUnreachable has the far side fail in every way before it answers: the modality is told to try again.
func TestPassThroughUnreachable(t *testing.T) {
	for name, far := range map[string]func(t *testing.T, p *passing){
		"refused":  func(_ *testing.T, p *passing) { p.network.SetDown(farAddress, errors.New("no route to host")) },
		"silent":   func(*testing.T, *passing) {},
		"hangs up": func(t *testing.T, p *passing) { closeNext(t, p, nil) },
		"garbage":  func(t *testing.T, p *passing) { closeNext(t, p, []byte("SSH-2.0-OpenSSH_9.2\r\n")) },
		"half":     func(t *testing.T, p *passing) { closeNext(t, p, []byte{2, 0, 0, 0, 1, 0, 0}) },
		"wrong":    func(t *testing.T, p *passing) { closeNext(t, p, pdu.EncodeReleaseRP()) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPassing(t.Context(), t, dicom.RouterConfig{HoldFor: 8 * time.Second})
				far(t, p)
				began := time.Now()
				write(t, p.near, oddRQ(t))
				r := pdu.NewReader(p.near, pdu.Limits{})
				h, err := r.Next()
				if err != nil || h.Type != pdu.TypeAssociateRJ {
					t.Fatalf("answered with %s, %v", h.Type, err)
				}
				b, err := r.Whole()
				if err != nil {
					t.Fatal(err)
				}
				rj, err := pdu.DecodeAssociateRJ(b)
				if err != nil || rj != (pdu.AssociateRJ{Result: 2, Source: 3, Reason: 1}) {
					t.Errorf("rejected with %s, %v", rj, err)
				}
				if took := time.Since(began); took > 8*time.Second {
					t.Errorf("after %v", took)
				}
				_ = p.near.Close()
				if res := <-p.results; res.Outcome != proxy.OutcomeUnreachable || !strings.Contains(res.Detail, farAddress) {
					t.Errorf("result %+v", res)
				}
			})
		})
	}
}

// closeNext answers the next connection with b and hangs up.
func closeNext(t *testing.T, p *passing, b []byte) {
	go func() {
		c, err := p.far.Accept()
		if err != nil {
			return
		}
		_, _ = io.ReadFull(c, make([]byte, len(oddRQ(t))))
		_, _ = c.Write(b)
		_ = c.Close()
	}()
}

func TestPassThroughNearGivesUp(t *testing.T) {
	p := newPassing(t.Context(), t, dicom.RouterConfig{})
	write(t, p.near, oddRQ(t))
	far, err := p.far.Accept()
	if err != nil {
		t.Fatal(err)
	}
	read(t, far, len(oddRQ(t)))
	_ = p.near.Close()
	if _, err := io.ReadAll(far); err != nil { // the far side learns of it while it still thinks
		t.Error(err)
	}
	_ = far.Close()
	if res := <-p.results; res.Outcome != proxy.OutcomeAborted {
		t.Errorf("result %+v", res)
	}
}

// TestPassThroughStops ends the context: at a PDU boundary both sides get an A-ABORT, inside a PDU nothing is put in between.
func TestPassThroughStops(t *testing.T) {
	for name, inside := range map[string]bool{"between PDUs": false, "inside a PDU": true} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			p := newPassing(ctx, t, dicom.RouterConfig{})
			rq := oddRQ(t)
			write(t, p.near, rq)
			far, err := p.far.Accept()
			if err != nil {
				t.Fatal(err)
			}
			read(t, far, len(rq))
			ac, _ := (&pdu.AssociateAC{}).Encode()
			write(t, far, ac)
			read(t, p.near, len(ac))
			want := pdu.Abort{Source: pdu.AbortProvider}.Encode()
			if inside {
				write(t, p.near, []byte{4, 0, 0, 0, 1, 0, 0, 0})
				read(t, far, 8)
				want = nil
			}
			cancel()
			if b, err := io.ReadAll(far); err != nil || !bytes.Equal(b, want) {
				t.Errorf("the far side reads %x, %v", b, err)
			}
			if res := <-p.results; res.Outcome != proxy.OutcomeAborted || !strings.Contains(res.Detail, "stopping") {
				t.Errorf("result %+v", res)
			}
			if b, err := io.ReadAll(p.near); err != nil || !bytes.Equal(b, pdu.Abort{Source: pdu.AbortProvider}.Encode()) {
				t.Errorf("the near side reads %x, %v", b, err)
			}
		})
	}
}

// TestPassThroughSilence counts the patience with two sides that say nothing, and with one that has ended while the other does not.
func TestPassThroughSilence(t *testing.T) {
	for name, tc := range map[string]struct {
		halfClose bool
		want      time.Duration
	}{"both silent": {false, 30 * time.Minute}, "one ended": {true, 30 * time.Second}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPassing(t.Context(), t, dicom.RouterConfig{})
				rq := oddRQ(t)
				write(t, p.near, rq)
				far, err := p.far.Accept()
				if err != nil {
					t.Fatal(err)
				}
				read(t, far, len(rq))
				ac, _ := (&pdu.AssociateAC{}).Encode()
				write(t, far, ac)
				read(t, p.near, len(ac))
				began := time.Now()
				if tc.halfClose {
					_ = p.near.(interface{ CloseWrite() error }).CloseWrite()
				}
				res := <-p.results
				if took := time.Since(began); took < tc.want || took > tc.want+5*time.Second {
					t.Errorf("left after %v instead of %v", took, tc.want)
				}
				if res.Outcome != proxy.OutcomeTimeout {
					t.Errorf("result %+v", res)
				}
			})
		})
	}
}

// TestPassThroughWholeAssociation runs Echo and Store of this package through the Router to an Archive.
func TestPassThroughWholeAssociation(t *testing.T) {
	n := proxytest.NewNetwork()
	archive, _ := newArchive(t, dicom.ArchiveConfig{AETitle: "PACS"})
	target, _ := serve(t, n, archive)
	r, err := dicom.NewRouter(dicom.RouterConfig{Routes: []dicom.Route{
		{Service: "PACS", AETitle: "PACS", Mode: dicom.PassThrough, Network: n, Target: target},
	}})
	if err != nil {
		t.Fatal(err)
	}
	address, results := serve(t, n, r)
	if _, err := dicom.Echo(t.Context(), dicom.EchoConfig{Network: n, Target: address, CalledAE: "PACS"}); err != nil {
		t.Error(err)
	}
	report, err := dicom.Store(t.Context(), dicom.StoreConfig{Network: n, Target: address, CalledAE: "PACS"}, study(t, 3, 64), nil)
	if err != nil || report.Sent != 3 {
		t.Errorf("%+v, %v", report, err)
	}
	for range 2 {
		if res := <-results; res.Outcome != proxy.OutcomeDone {
			t.Errorf("result %+v", res)
		}
	}
	_, err = dicom.Echo(t.Context(), dicom.EchoConfig{Network: n, Target: address, CalledAE: "pacs"})
	if !errors.As(err, new(*ul.RejectedError)) {
		t.Errorf("wrong AE title: %v", err)
	}
}
