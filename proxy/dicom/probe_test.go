package dicom_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/dicom"
	"github.com/towpath/towpath/proxy/dicom/pdu"
	"github.com/towpath/towpath/proxy/dicom/ul"
	"github.com/towpath/towpath/proxy/proxytest"
)

const (
	mrStorage    = "1.2.840.10008.5.1.4.1.1.4"
	usStorage    = "1.2.840.10008.5.1.4.1.1.6.1"
	bigEndian    = "1.2.840.10008.1.2.2"
	jpegLossless = "1.2.840.10008.1.2.4.70"
	mpeg4        = "1.2.840.10008.1.2.4.102"
)

// restricted runs storescp with a profile of its own: CT images in four transfer syntaxes, MR images in one, video of ultrasound only.
func restricted(t *testing.T) string {
	t.Helper()
	config := filepath.Join(t.TempDir(), "storescp.cfg")
	text := `[[TransferSyntaxes]]
[CT]
TransferSyntax1 = JPEGLossless:Non-hierarchical-1stOrderPrediction
TransferSyntax2 = JPEG2000LosslessOnly
TransferSyntax3 = LittleEndianExplicit
TransferSyntax4 = LittleEndianImplicit
[MR]
TransferSyntax1 = LittleEndianImplicit
[Video]
TransferSyntax1 = MPEG4HighProfile/Level4.1
[[PresentationContexts]]
[All]
PresentationContext1 = VerificationSOPClass\MR
PresentationContext2 = CTImageStorage\CT
PresentationContext3 = MRImageStorage\MR
PresentationContext4 = UltrasoundImageStorage\Video
[[Profiles]]
[Small]
PresentationContexts = All
`
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := freePort(t)
	return start(t, "ANY", p, "storescp", "--fork", "-xf", config, "Small", "-od", t.TempDir(), p)
}

// smallKinds is what restricted takes.
var smallKinds = []string{
	ctStorage + " " + explicit, ctStorage + " " + implicit, ctStorage + " " + jpegLossless, ctStorage + " " + jpeg2000,
	mrStorage + " " + implicit, usStorage + " " + mpeg4,
}

// kindsOf lists what Capabilities say is taken.
func kindsOf(c *dicom.Capabilities) map[string]bool {
	out := map[string]bool{}
	for class, set := range c.Classes {
		for i, s := range c.Syntaxes {
			if set&(1<<i) != 0 {
				out[class+" "+s] = true
			}
		}
	}
	return out
}

func setOf(kinds ...string) map[string]bool {
	out := map[string]bool{}
	for _, k := range kinds {
		out[k] = true
	}
	return out
}

func probe(t *testing.T, address, called string, also ...string) *dicom.Capabilities {
	t.Helper()
	c, err := dicom.Probe(t.Context(), dicom.ProbeConfig{Network: loopback{}, Target: address, CalledAE: called, Also: also})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestDcmtkProbeIsTheProfile(t *testing.T) {
	c := probe(t, restricted(t), "ANY")
	if diff := cmp.Diff(setOf(smallKinds...), kindsOf(c)); diff != "" {
		t.Errorf("what was found out is not the profile (-want +got):\n%s", diff)
	}
	if classes, pairs := c.Taken(); classes != 3 || pairs != 6 {
		t.Errorf("%d classes, %d pairs, want 3 and 6", classes, pairs)
	}
	if !strings.HasPrefix(c.ImplementationVersion, "OFFIS_DCMTK") || c.CallingAE != "TOWPATH" || c.Commits() {
		t.Errorf("identity %q, calling %q, commitment %v", c.ImplementationVersion, c.CallingAE, c.Commits())
	}
	b, err := c.Encode()
	if err != nil || len(b) > 12<<10 {
		t.Errorf("it takes %d bytes, %v", len(b), err)
	}
}

// What no list of ours has is asked for when it came up.
func TestProbeAsksForWhatCameUp(t *testing.T) {
	const odd = "1.2.840.10008.5.1.4.1.1.999.7"
	network := proxytest.NewNetwork()
	picky := &pickyArchive{takes: func(class, syntax string) bool { return class == odd && syntax == jpeg2000 }}
	address, _ := serve(t, network, picky)
	for _, tc := range []struct {
		also []string
		want map[string]bool
	}{{nil, setOf()}, {[]string{odd}, setOf(odd + " " + jpeg2000)}} {
		c, err := dicom.Probe(t.Context(), dicom.ProbeConfig{Network: network, Target: address, CalledAE: "PACS", Also: tc.also})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tc.want, kindsOf(c)); diff != "" {
			t.Errorf("also %v (-want +got):\n%s", tc.also, diff)
		}
		if _, asked := c.Classes[odd]; asked != (tc.also != nil) {
			t.Errorf("also %v: asked for it is %v", tc.also, asked)
		}
	}
	if picky.messages != 0 {
		t.Errorf("%d messages were sent", picky.messages)
	}
}

// pickyArchive accepts contexts by a rule, one calling AE title if it names one, and counts messages.
type pickyArchive struct {
	takes    func(class, syntax string) bool
	caller   string
	most     int
	messages int
}

func (p *pickyArchive) Serve(ctx context.Context, c net.Conn) proxy.Result {
	in, err := ul.Receive(ctx, c, ul.Config{})
	if err != nil {
		return proxy.Result{}
	}
	if p.caller != "" && in.RQ.CallingAE != p.caller {
		_ = in.Reject(ctx, pdu.AssociateRJ{Result: pdu.RejectedPermanent, Source: pdu.SourceUser, Reason: pdu.UserCallingAE})
		return proxy.Result{}
	}
	p.most = max(p.most, len(in.RQ.Contexts))
	var answer []pdu.AcceptedContext
	for _, pc := range in.RQ.Contexts {
		ac := pdu.AcceptedContext{ID: pc.ID, Result: pdu.ContextTransferSyntaxes, TransferSyntax: implicit}
		for _, s := range pc.TransferSyntaxes {
			if p.takes(pc.AbstractSyntax, s) {
				ac.Result, ac.TransferSyntax = pdu.ContextAccepted, s
				break
			}
		}
		answer = append(answer, ac)
	}
	a, err := in.Accept(ctx, answer)
	for err == nil {
		if _, _, err = a.Receive(ctx); err == nil {
			p.messages++
		}
	}
	return proxy.Result{}
}

func TestProbeAsWhomItIsKnown(t *testing.T) {
	network := proxytest.NewNetwork()
	picky := &pickyArchive{caller: "CT1", takes: func(class, _ string) bool { return class == ctStorage }}
	address, _ := serve(t, network, picky)
	cfg := dicom.ProbeConfig{Network: network, Target: address, CalledAE: "PACS", CallingAEs: []string{"TOWPATH", "CT1", "MR1"}}
	c, err := dicom.Probe(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if classes, pairs := c.Taken(); c.CallingAE != "CT1" || classes != 1 || pairs != len(c.Syntaxes) {
		t.Errorf("as %q: %d classes, %d pairs", c.CallingAE, classes, pairs)
	}
	if picky.most > 128 {
		t.Errorf("an association had %d contexts", picky.most)
	}
	cfg.CallingAEs = []string{"TOWPATH", "MR1"}
	if _, err := dicom.Probe(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), `does not know our AE title "MR1"`) {
		t.Errorf("the error says %v", err)
	}
}

func TestPeersProbed(t *testing.T) {
	if testing.Short() {
		t.Skip("peers that take everything are asked for everything")
	}
	qr, _ := qrscp(t, nil)
	for name, tc := range map[string]struct {
		address, ae string
		commits     bool
		least       int
	}{
		"dcmqrscp": {qr, "QRPACS", false, 50},
		"Orthanc":  {orthanc(t, "NOBODY", freePort(t)), "ORTHANC", true, 100},
	} {
		c := probe(t, tc.address, tc.ae)
		classes, pairs := c.Taken()
		t.Logf("%s: %d classes, %d pairs, software %s", name, classes, pairs, c.Software())
		if classes < tc.least || pairs < classes || c.Commits() != tc.commits {
			t.Errorf("%s: %d classes, %d pairs, commitment %v", name, classes, pairs, c.Commits())
		}
	}
}

func FuzzDecodeCapabilities(f *testing.F) {
	f.Add([]byte(`{"probed":"2026-11-22T10:00:00Z","calling_ae":"A","syntaxes":["1.2.840.10008.1.2"],"classes":{"1.2.840.10008.5.1.4.1.1.2":1}}`))
	f.Add([]byte(`{"classes":null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := dicom.DecodeCapabilities(b)
		if err != nil {
			return
		}
		again, err := c.Encode()
		if err != nil {
			t.Fatal(err)
		}
		back, err := dicom.DecodeCapabilities(again)
		if err != nil || !back.Same(c) {
			t.Fatalf("%s becomes %s, %v", b, again, err)
		}
	})
}
