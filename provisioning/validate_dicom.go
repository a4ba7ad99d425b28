package provisioning

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/towpath/towpath/provisioning/wire"
)

// Limits of the options of a DICOM Service.
const (
	maxCallers = 256
	maxUrgent  = 64
	maxSources = 64
	maxClasses = 256
	maxRate    = 10000
)

func (s Service) checkDICOM() error {
	o := s.DICOM
	switch {
	case o == (wire.DICOMOptions{}):
		return nil
	case s.Protocol != wire.DICOM:
		return Errorf(Invalid, "an HL7 service has no options of DICOM").WithHint("leave them out, or choose the protocol %q", wire.DICOM)
	case s.Mode != wire.Queued && (o.Hold || o.FarEcho || o.ReportPort != 0 || o.Classes != ""):
		return Errorf(Invalid, "only a queued service holds objects, answers echoes and commitments, and looks at SOP classes").
			WithHint("leave these options out, or choose the mode %q", wire.Queued)
	case s.Mode != wire.Queued && (o.UrgentCallers != "" || o.UrgentClasses != "" || o.UrgentStat):
		return Errorf(Invalid, "only a queued service has a queue in which objects can pass others").
			WithHint("leave these options out, or choose the mode %q", wire.Queued)
	case o.ReportPort < 0 || o.ReportPort > 65535:
		return Errorf(Invalid, "%d is no TCP port", o.ReportPort).WithHint("give 1 to 65535, or 0 for none")
	case o.Rate < 0 || o.Rate > maxRate:
		return Errorf(Invalid, "%d associations a minute make no sense", o.Rate).WithHint("give 1 to %d, or 0 for no bound", maxRate)
	}
	callers := o.Split(o.Callers)
	if o.ProbeAE != "" {
		if err := CheckAETitle(o.ProbeAE); err != nil {
			return err
		}
	}
	for _, ae := range slices.Concat(callers, o.Split(o.UrgentCallers)) {
		if err := CheckAETitle(ae); err != nil {
			return err
		}
	}
	for _, p := range o.Split(o.Sources) {
		if v, err := netip.ParsePrefix(p); err != nil || v.String() != p || v.Masked() != v {
			return Errorf(Invalid, "%q is no prefix of a LAN", clipped(p)).WithHint("write such as 192.168.10.0/24, without host bits")
		}
	}
	for _, uid := range slices.Concat(o.Split(o.Classes), o.Split(o.UrgentClasses)) {
		if len(uid) > 64 || strings.Trim(uid, "0123456789.") != "" {
			return Errorf(Invalid, "%q is no UID", clipped(uid)).WithHint("give SOP class UIDs, such as 1.2.840.10008.5.1.4.1.1.2 for CT images")
		}
	}
	return first(checkList("calling AE titles", callers, maxCallers), checkList("sources", o.Split(o.Sources), maxSources),
		checkList("SOP classes", o.Split(o.Classes), maxClasses), checkList("urgent AE titles", o.Split(o.UrgentCallers), maxUrgent),
		checkList("urgent SOP classes", o.Split(o.UrgentClasses), maxUrgent))
}

// checkList bounds a list and wants it sorted, so that equal options are equal.
func checkList(what string, list []string, most int) error {
	if len(list) > most {
		return Errorf(Invalid, "%d %s are more than %d", len(list), what, most).WithHint("leave the list out to take all")
	}
	for i := 1; i < len(list); i++ {
		if slices.Compare(list[i-1:i], list[i:i+1]) >= 0 {
			return Errorf(Invalid, "the %s are not sorted, or one is there twice", what).WithHint("give each once")
		}
	}
	return nil
}
