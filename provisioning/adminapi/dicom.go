package adminapi

import (
	"context"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/towpath/towpath/provisioning/coordinator"
	"github.com/towpath/towpath/provisioning/wire"
)

// DICOMOptions are the options of a DICOM Service.
type DICOMOptions struct {
	Hold       bool     `json:"hold,omitempty" doc:"take what the archive does not, and keep it for an operator"`
	ProbeAE    string   `json:"probe_ae,omitempty" doc:"calling AE title by which the archive is asked what it accepts; TOWPATH if absent"`
	ReportPort int      `json:"report_port,omitempty" doc:"TCP port at which devices listen for results of storage commitments"`
	Callers    []string `json:"callers,omitempty" nullable:"false" doc:"calling AE titles that may use it, all if absent"`
	Sources    []string `json:"sources,omitempty" nullable:"false" doc:"prefixes of the LAN that devices may call from, all if absent" example:"192.168.10.0/24"`
	Classes    []string `json:"classes,omitempty" nullable:"false" doc:"SOP classes it takes, all if absent"`
	Rate       int      `json:"rate,omitempty" doc:"associations that one device may begin in a minute; no bound if absent"`
	Approved   bool     `json:"approved,omitempty" doc:"only approved devices may use it; else unknown ones may, and are listed"`
	FarEcho    bool     `json:"far_echo,omitempty" doc:"answer a C-ECHO with the state of the archive"`
	// What is urgent passes other objects.
	UrgentCallers []string `json:"urgent_callers,omitempty" nullable:"false" doc:"calling AE titles whose objects pass others; none if absent"`
	UrgentClasses []string `json:"urgent_classes,omitempty" nullable:"false" doc:"SOP classes whose objects pass others; none if absent"`
	UrgentStat    bool     `json:"urgent_stat,omitempty" doc:"objects of studies pass others that a worklist gives the priority STAT or HIGH"`
}

// Archive is what the gateway in front of an archive found out of it.
type Archive struct {
	Probed   time.Time `json:"probed,omitzero" doc:"when it was asked; absent for never"`
	Software string    `json:"software,omitempty"`
	Classes  int       `json:"classes" doc:"storage SOP classes that it takes"`
	Pairs    int       `json:"pairs" doc:"pairs of SOP class and transfer syntax that it takes"`
	Problem  string    `json:"problem,omitempty" doc:"why it could not be asked"`
}

func dicomView(o wire.DICOMOptions) *DICOMOptions {
	if o == (wire.DICOMOptions{}) {
		return nil
	}
	return &DICOMOptions{
		Hold: o.Hold, ProbeAE: o.ProbeAE, ReportPort: o.ReportPort, Callers: o.Split(o.Callers), Sources: o.Split(o.Sources),
		Classes: o.Split(o.Classes), Rate: o.Rate, Approved: o.Approved, FarEcho: o.FarEcho,
		UrgentCallers: o.Split(o.UrgentCallers), UrgentClasses: o.Split(o.UrgentClasses), UrgentStat: o.UrgentStat,
	}
}

func (v *DICOMOptions) options() wire.DICOMOptions {
	if v == nil {
		return wire.DICOMOptions{}
	}
	return wire.DICOMOptions{
		Hold: v.Hold, ProbeAE: strings.TrimSpace(v.ProbeAE), ReportPort: v.ReportPort, Callers: strings.Join(v.Callers, `\`),
		Sources: strings.Join(v.Sources, `\`), Classes: strings.Join(v.Classes, `\`), Rate: v.Rate, Approved: v.Approved, FarEcho: v.FarEcho,
		UrgentCallers: strings.Join(v.UrgentCallers, `\`), UrgentClasses: strings.Join(v.UrgentClasses, `\`), UrgentStat: v.UrgentStat,
	}
}

func archiveView(a *wire.ArchiveFacts) *Archive {
	if a == nil {
		return nil
	}
	return &Archive{Probed: a.Probed, Software: a.Software, Classes: a.Classes, Pairs: a.Pairs, Problem: a.Problem}
}

// Device is a device of a Site: one that has called its box, one that was decided on, or both.
type Device struct {
	AETitle  string     `json:"ae_title"`
	Address  netip.Addr `json:"address,omitzero" doc:"where it is; absent for anywhere at the site"`
	State    string     `json:"state" enum:"unknown,approved,denied"`
	Report   string     `json:"report,omitempty" doc:"host:port where it listens for outcomes of storage commitments"`
	First    time.Time  `json:"first,omitzero" doc:"when it called first; absent for never"`
	Last     time.Time  `json:"last,omitzero" doc:"when it called last"`
	Services []string   `json:"services,omitempty" nullable:"false" doc:"what it called for"`
}

// DeviceDecision is what an operator decides of a device.
type DeviceDecision struct {
	AETitle string     `json:"ae_title"`
	Address netip.Addr `json:"address,omitzero" doc:"anywhere at the site if absent"`
	State   string     `json:"state" doc:"approved, denied, or unknown to take it back"`
	Report  string     `json:"report,omitempty" doc:"host:port where it listens for outcomes of storage commitments"`
}

func deviceView(d coordinator.DeviceInfo) Device {
	return Device{
		AETitle: d.AETitle, Address: d.Address, State: string(d.State), Report: d.Report, First: d.First, Last: d.Last, Services: d.Services,
	}
}

// Inputs and bodies of devices.
type (
	deviceList struct {
		Devices []Device `json:"devices" nullable:"false"`
	}
	deviceInput struct {
		Site string `path:"site" maxLength:"64" doc:"name or id"`
		Body DeviceDecision
	}
)

func (s *server) devices() {
	serve(s, s.operation("list-devices", http.MethodGet, "/v1/sites/{site}/devices", "devices", "Who calls DICOM services at a site", http.StatusOK),
		func(ctx context.Context, in *sitePath) (deviceList, error) {
			l, err := s.c.Devices(ctx, in.Site)
			return deviceList{each(l, deviceView)}, err
		})
	serveEmpty(s, s.operation("decide-device", http.MethodPut, "/v1/sites/{site}/devices", "devices",
		"Approve or deny a device, or take that back", http.StatusNoContent),
		func(ctx context.Context, in *deviceInput) error {
			d := wire.Device{AETitle: strings.TrimSpace(in.Body.AETitle), Address: in.Body.Address.Unmap(), Report: in.Body.Report}
			return s.c.DecideDevice(ctx, actorOf(ctx), in.Site, d, coordinator.DeviceState(in.Body.State))
		})
}

// Devices returns who calls DICOM services at a Site, and what was decided of them.
func (c *Client) Devices(ctx context.Context, site string) ([]Device, error) {
	l, err := call[deviceList](ctx, c, http.MethodGet, path("sites", site, "devices"), nil)
	return l.Devices, err
}

// DecideDevice approves or denies a device, or takes that back.
func (c *Client) DecideDevice(ctx context.Context, site string, d DeviceDecision) error {
	return c.send(ctx, http.MethodPut, path("sites", site, "devices"), d)
}
