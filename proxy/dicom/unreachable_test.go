package dicom_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/dicom"
	"github.com/towpath/towpath/proxy/dicom/pdu"
	"github.com/towpath/towpath/proxy/dicom/ul"
	"github.com/towpath/towpath/proxy/proxytest"
	"github.com/towpath/towpath/proxy/spool"
)

// doorman rejects every association, or hangs up.
type doorman struct{ reject *pdu.AssociateRJ }

// Serve implements proxy.Handler.
func (d doorman) Serve(ctx context.Context, c net.Conn) proxy.Result {
	if in, err := ul.Receive(ctx, c, ul.Config{}); err == nil && d.reject != nil {
		_ = in.Reject(ctx, *d.reject)
	}
	return proxy.Result{}
}

// What keeps all objects from the archive is told from what may be about this object or its device: only the first ends with an outage.
func TestUnreachableIsNoRefusal(t *testing.T) {
	for name, tc := range map[string]struct {
		handler     proxy.Handler // nil for nobody
		unreachable bool
	}{
		"nobody":    {nil, true},
		"hangs up":  {doorman{}, true},
		"congested": {doorman{&pdu.AssociateRJ{Result: pdu.RejectedTransient, Source: pdu.SourcePresentation, Reason: pdu.PresentationCongestion}}, true},
		"does not know the device": {
			doorman{&pdu.AssociateRJ{Result: pdu.RejectedPermanent, Source: pdu.SourceUser, Reason: pdu.UserCallingAE}}, false,
		},
		"out of resources": {&holdings{habits: habits{mishaps: func(string, int) mishap { return fullNow }}}, false},
		"breaks off":       {&holdings{habits: habits{mishaps: func(string, int) mishap { return abortsEarly }}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			n, address := proxytest.NewNetwork(), "192.0.2.9:104"
			if tc.handler != nil {
				address, _ = serve(t, n, tc.handler)
			}
			sink := dicom.NewSink(dicom.SinkConfig{Network: n, Target: address, CalledAE: "PACS"})
			defer sink.Idle()
			data := dataSet("1.2.3", "DOE")
			_, err := sink.Deliver(t.Context(), numbered(1, "1.2.3", data), strings.NewReader(data))
			if _, is := errors.AsType[*spool.UnreachableError](err); err == nil || is != tc.unreachable {
				t.Errorf("%T: %v", err, err)
			}
		})
	}
}
