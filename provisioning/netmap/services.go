package netmap

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/wire"
)

func (x *builder) addServices() {
	type listener struct {
		site provisioning.SiteID
		port uint16
	}
	oldest := slices.Clone(x.s.Services)
	slices.SortFunc(oldest, func(a, b provisioning.Service) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
	ports := map[listener]string{}
	names := map[string]bool{}
	for _, v := range oldest {
		at := listener{v.Site, v.Port}
		reason := serviceFault(v)
		if other, taken := ports[at]; taken && reason == "" {
			reason = fmt.Sprintf("port %d of its site belongs to %s", v.Port, other)
		}
		if names[v.Name] && reason == "" {
			reason = "an older service has the same name"
		}
		if reason != "" {
			x.omit("service "+cmp.Or(v.Name, string(v.ID)), "%s", reason)
			continue
		}
		ports[at], names[v.Name] = v.Name, true
		sound := &service{Service: v}
		x.services[v.ID] = sound
		x.byAge = append(x.byAge, sound)
	}
}

// serviceFault says why nobody can be told of a service, or nothing.
func serviceFault(v provisioning.Service) string {
	switch {
	case v.ID == "" || v.Name == "":
		return "it has no id or no name"
	case v.Port == 0:
		return "it has no port"
	case v.Target == "":
		return "it has no target"
	case v.Protocol != wire.DICOM && v.Protocol != wire.HL7:
		return fmt.Sprintf("its protocol is %q", v.Protocol)
	case v.Mode != wire.Queued && v.Mode != wire.PassThrough:
		return fmt.Sprintf("its mode is %q", v.Mode)
	case v.Protocol != wire.HL7 && v.HL7 != (wire.HL7Options{}):
		return "it has options of HL7"
	case v.Protocol != wire.DICOM && v.DICOM != (wire.DICOMOptions{}):
		return "it has options of DICOM"
	case v.Protocol == wire.DICOM && v.AETitle == "":
		return "it has no AE title"
	}
	return ""
}
