package wire

import (
	"net/netip"
	"strings"
	"time"
)

// DICOMOptions are the options of a DICOM Service. The zero value is what most need. Lists are sorted, with a backslash between
// two entries, as in DICOM itself (PS3.5 §6.4).
type DICOMOptions struct {
	// Hold makes the gateways of users take objects that the archive does not, as far as is known, and keep them for an operator. Else they
	// refuse them.
	Hold bool `json:"hold,omitempty"`
	// ProbeAE is the calling AE title by which the gateway in front of the archive asks what it accepts; empty for its own.
	ProbeAE string `json:"probe_ae,omitempty"`
	// ReportPort is the TCP port at which devices listen for the result of a storage commitment, at the address that they called from; 0 means
	// that they are told on the association they asked on only.
	ReportPort int `json:"report_port,omitempty"`
	// Callers are the calling AE titles that may use the Service, and Sources the prefixes of the LAN that devices may call from; empty
	// for all.
	Callers string `json:"callers,omitempty"`
	Sources string `json:"sources,omitempty"`
	// Classes are the SOP classes it takes; empty for all.
	Classes string `json:"classes,omitempty"`
	// Rate is how many associations one device may begin in a minute; 0 is no bound.
	Rate int `json:"rate,omitempty"`
	// Approved lets only Devices in that an operator has approved. Else unknown ones may, and are listed.
	Approved bool `json:"approved,omitempty"`
	// FarEcho makes a queued Service answer a C-ECHO with the state of the archive instead of the gateway's own.
	FarEcho bool `json:"far_echo,omitempty"`
	// UrgentCallers are the calling AE titles whose objects pass others in the queue and on the line, UrgentClasses the SOP classes that do.
	UrgentCallers string `json:"urgent_callers,omitempty"`
	UrgentClasses string `json:"urgent_classes,omitempty"`
	// UrgentStat lets objects of studies pass others that a modality worklist gives the priority STAT or HIGH.
	UrgentStat bool `json:"urgent_stat,omitempty"`
}

// Split returns the entries of one of the lists; none for an empty one.
func (DICOMOptions) Split(list string) []string {
	if list == "" {
		return nil
	}
	return strings.Split(list, `\`)
}

// Device is what an operator has decided of a device at a Site.
type Device struct {
	AETitle string `json:"ae_title"`
	// Address is where it is; the zero value means anywhere at the Site.
	Address netip.Addr `json:"address,omitzero"`
	// Denied devices may use no DICOM Service; others are approved.
	Denied bool `json:"denied,omitempty"`
	// Report is the host:port where it listens for outcomes of storage commitments; empty for the Service's port at the address it calls from.
	Report string `json:"report,omitempty"`
}

// DeviceFacts are a device that has called a box from the LAN.
type DeviceFacts struct {
	AETitle  string     `json:"ae_title"`
	Address  netip.Addr `json:"address"`
	First    time.Time  `json:"first"`
	Last     time.Time  `json:"last"`
	Services []string   `json:"services,omitempty"`
}
