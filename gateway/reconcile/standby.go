package reconcile

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/towpath/towpath/gateway/standby"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/dicom"
)

// protocolStandby is that of the listener where other gateways ask how the Services here are.
const protocolStandby wire.Protocol = "standby"

// echoEvery is how often an archive that knows this box by an AE title is asked whether it still does.
const echoEvery = time.Minute

// TunnelError means that nothing of a Desired is in force: the firewall or the tunnel did not take it.
type TunnelError struct{ err error }

func (e *TunnelError) Error() string { return e.err.Error() }

// Unwrap returns the cause.
func (e *TunnelError) Unwrap() error { return e.err }

// Look is a Service of the own Site of which other gateways ask how it is.
type Look struct {
	Service string
	// Target is host:port on the LAN; empty for what needs none.
	Target string
	TLS    wire.TLSTarget
	// AETitle and ProbeAE are set for an archive that is to know this box.
	AETitle, ProbeAE string
	From             []netip.Prefix
}

// looks adds the listener for questions, if the box is one of several gateways of a center, and what is looked at to answer them.
func (c *compiler) looks(m wire.NetMap) {
	several := slices.ContainsFunc(m.Shared, func(s wire.Shared) bool { return s.Site == m.Self.Site && slices.Contains(s.Gateways, m.Self.Node) })
	if !several {
		return
	}
	var allow []netip.Prefix
	for _, o := range m.Offers {
		l := Look{Service: o.Service, Target: o.Target, TLS: c.lanTLS.Target(o.Service)}
		if strings.HasPrefix(o.Target, wire.FolderTarget) && o.Protocol == wire.HL7 {
			l.Target = ""
		}
		if o.Protocol == wire.DICOM && o.DICOM.ProbeAE != "" {
			l.AETitle, l.ProbeAE = o.AETitle, o.DICOM.ProbeAE
		}
		for _, s := range o.From {
			l.From = append(l.From, s.Prefix)
			if !slices.Contains(allow, s.Prefix) {
				allow = append(allow, s.Prefix)
			}
		}
		c.lookAt = append(c.lookAt, l)
	}
	if len(allow) == 0 {
		return
	}
	for _, a := range []netip.Addr{c.self.Address, c.self.Former} {
		if a.IsValid() {
			c.listen(Overlay, netip.AddrPortFrom(a, wire.StandbyPort).String(), protocolStandby, allow, Route{Service: "standby"})
		}
	}
}

// applyLooks looks at what others ask about.
func (r *Runner) applyLooks(want []Look) {
	targets := make([]standby.Target, 0, len(want))
	for _, l := range want {
		t := standby.Target{Service: l.Service, From: l.From, Key: fmt.Sprintf("%s %+v %s %s", l.Target, l.TLS, l.AETitle, l.ProbeAE)}
		if l.Target != "" {
			t.Look = r.look(l)
		}
		targets = append(targets, t)
	}
	r.looks.Set(targets)
}

// look connects to a Service. That is enough to compare the LANs of two gateways, and costs no association of an archive that has few. What a
// connection does not show is an archive that has been told of one gateway only: where this box has an AE title of its own there, it is asked now and then.
func (r *Runner) look(l Look) func(context.Context) error {
	network := r.reach(l.TLS)
	var asked time.Time
	var refused error
	return func(ctx context.Context) error {
		c, err := network.DialContext(ctx, "tcp", l.Target)
		if err != nil {
			return fmt.Errorf("look at %s: %w", l.Service, err)
		}
		_ = c.Close() // nothing was sent
		if l.ProbeAE != "" && time.Since(asked) >= echoEvery {
			asked = time.Now()
			refused = r.refusal(ctx, l, network)
		}
		return refused
	}
}

// refusal is why an archive will not have this box; nil also if it does not answer, which says nothing.
func (r *Runner) refusal(ctx context.Context, l Look, n proxy.Network) error {
	_, err := dicom.Echo(ctx, dicom.EchoConfig{Network: n, Target: l.Target, CallingAE: l.ProbeAE, CalledAE: l.AETitle})
	if !dicom.Refuses(err) {
		return nil
	}
	r.cfg.Log.Warn("other gateways are told not to come here", "service", l.Service, "error", err)
	return err //nolint:wrapcheck // it is a sentence
}
