package reconcile

import (
	"cmp"
	"context"
	"errors"
	"net/netip"

	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/proxy/dicom"
)

// dicomRouter reads the pledges without the lock: only Apply, which calls it, changes them.
func (r *Runner) dicomRouter(l Listener) (*dicom.Router, error) {
	cfg := dicom.RouterConfig{Queue: r.cfg.Queue, Commitments: r.commitments, Reports: l.Reports, Log: r.cfg.Log, Admit: r.door.admit(l), Orders: r.orders}
	if l.Side == LAN {
		cfg.Devices = r.cfg.Devices
	}
	for _, x := range l.Routes {
		route := dicom.Route{Service: x.Service, AETitle: x.AETitle, Mode: dicom.PassThrough, Target: x.Target, Network: r.way(x)}
		if x.Mode == wire.Queued {
			route = dicom.Route{Service: x.Service, AETitle: x.AETitle, Mode: dicom.Queued, QueueName: x.Queue, Hold: x.DICOM.Hold, Urgent: r.urgencyOf(x.DICOM)}
			r.queuedOptions(&route, x)
		}
		// The archive is behind what is queued for it, and behind what is offered of it.
		if x.Mode == wire.Queued || l.Side == Overlay {
			route.Twin = r.cfg.Twins.Of(x.Service)
		}
		if l.Side == LAN { // who may send what is decided where it comes from
			route.Rules = rulesOf(x.DICOM, r.site)
		}
		cfg.Routes = append(cfg.Routes, route)
	}
	return dicom.NewRouter(cfg) //nolint:wrapcheck // startListener adds the listener's name
}

// queuedOptions adds what needs the archive's own place, which may move.
func (r *Runner) queuedOptions(route *dicom.Route, x Route) {
	p := r.pledges[x.Queue]
	if p == nil {
		if x.DICOM.FarEcho {
			route.FarEcho = func(context.Context, string) error { return errors.New("this box cannot ask the archive") }
		}
		return
	}
	route.Pledges = p.pledges
	if x.DICOM.FarEcho {
		route.FarEcho = func(ctx context.Context, calling string) error {
			d := p.spec.Load()
			_, err := dicom.Echo(ctx, dicom.EchoConfig{
				Network: r.cfg.OverlayNet, Target: d.Target.String(), CallingAE: cmp.Or(d.DICOM.ProbeAE, calling), CalledAE: d.AETitle, Log: r.cfg.Log,
			})
			return err //nolint:wrapcheck // it is a sentence for a technician
		}
	}
}

// urgencyOf says which objects of a Service are urgent.
func (r *Runner) urgencyOf(o wire.DICOMOptions) dicom.Urgency {
	u := dicom.Urgency{Callers: o.Split(o.UrgentCallers), Classes: o.Split(o.UrgentClasses)}
	if o.UrgentStat {
		u.Orders = r.orders
	}
	return u
}

// rulesOf leaves out a prefix that makes no sense: the coordinator lets none pass.
func rulesOf(o wire.DICOMOptions, site string) dicom.Rules {
	rules := dicom.Rules{Callers: o.Split(o.Callers), Classes: o.Split(o.Classes), Rate: o.Rate, Approved: o.Approved, Site: site}
	for _, s := range o.Split(o.Sources) {
		if p, err := netip.ParsePrefix(s); err == nil {
			rules.Sources = append(rules.Sources, p)
		}
	}
	return rules
}
