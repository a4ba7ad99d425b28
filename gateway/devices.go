package gateway

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/towpath/towpath/gateway/health"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/proxy/dicom"
)

const codeDevices = "devices"

const (
	// devicesTold is how many callers the coordinator hears of, devicesNamed how many a Condition names.
	devicesTold  = 64
	devicesNamed = 4
	// callersRecent is how long an unknown caller is worth a word.
	callersRecent = 24 * time.Hour
)

// openDevices reads who has called. Trouble with that is no reason not to start.
func openDevices(opt Options) *dicom.Devices {
	var saved []dicom.Device
	b, err := opt.Dir.Devices()
	if err == nil && b != nil {
		err = json.Unmarshal(b, &saved)
	}
	if err != nil {
		opt.Log.Warn("who has called is forgotten", "error", err)
		saved = nil
	}
	return dicom.NewDevices(saved)
}

// decisionsOf are those of a map.
func decisionsOf(m wire.NetMap) []dicom.Decision {
	var out []dicom.Decision
	for _, d := range m.Devices {
		out = append(out, dicom.Decision{AETitle: d.AETitle, Address: d.Address, Denied: d.Denied, Report: d.Report})
	}
	return out
}

// deviceFacts are those that called last.
func deviceFacts(all []dicom.Device) []wire.DeviceFacts {
	slices.SortFunc(all, func(a, b dicom.Device) int { return b.Last.Compare(a.Last) })
	var out []wire.DeviceFacts
	for _, d := range all[:min(len(all), devicesTold)] {
		out = append(out, wire.DeviceFacts{AETitle: d.AETitle, Address: d.Address, First: d.First, Last: d.Last, Services: d.Services})
	}
	return out
}

// observeDevices tells of callers that nobody has decided on, and saves who has called.
func (g *Gateway) observeDevices(m wire.NetMap, now time.Time) {
	all := g.devices.List()
	g.saveDevices(all, now)
	var unknown []string
	for _, d := range all {
		if d.State == "unknown" && now.Sub(d.Last) < callersRecent {
			unknown = append(unknown, fmt.Sprintf("%q at %v", d.AETitle, d.Address))
		}
	}
	if len(unknown) == 0 || !decides(m) {
		g.health.Clear(codeDevices)
		return
	}
	text := strings.Join(unknown[:min(len(unknown), devicesNamed)], ", ")
	if len(unknown) > devicesNamed {
		text += fmt.Sprintf(" and %d more", len(unknown)-devicesNamed)
	}
	g.health.Raise(codeDevices, health.Info, fmt.Sprintf("devices that nobody has approved or denied call DICOM services here: %s. "+
		"\"towpath device list --site %s\" shows them", text, m.Self.Site), now)
}

// decides reports whether the Site's devices are decided on at all: where nobody does, there is nothing to tell of.
func decides(m wire.NetMap) bool {
	return len(m.Devices) > 0 || slices.ContainsFunc(m.Uses, func(u wire.Use) bool { return u.DICOM.Approved })
}

// saveDevices saves at once when there is somebody new, and else now and then: when someone called last is no matter of minutes.
func (g *Gateway) saveDevices(all []dicom.Device, now time.Time) {
	g.devicesSaving.Lock()
	defer g.devicesSaving.Unlock()
	if len(all) == g.devicesSaved && now.Sub(g.devicesAt) < time.Hour || len(all) == 0 {
		return
	}
	slices.SortFunc(all, func(a, b dicom.Device) int {
		return cmp.Or(cmp.Compare(a.AETitle, b.AETitle), a.Address.Compare(b.Address))
	})
	b, err := json.Marshal(all)
	if err == nil {
		err = g.opt.Dir.SaveDevices(b)
	}
	if err != nil {
		g.opt.Log.Error("who has called cannot be saved", "error", err)
		return
	}
	g.devicesSaved, g.devicesAt = len(all), now
}
