package netmap

import (
	"strings"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/wire"
)

// Door is how a sender on the LAN of a using Site reaches one Service: what must tell it apart from every other Use of that Site.
type Door struct {
	Port     uint16
	Protocol wire.Protocol
	// AETitle is the called AE title of a DICOM Service.
	AETitle string
	// Receiver is that of an HL7 Service.
	Receiver string
}

// NewDoor is the Door of a Service granted at a LAN port.
func NewDoor(v provisioning.Service, lanPort uint16) Door {
	return Door{Port: lanPort, Protocol: v.Protocol, AETitle: v.AETitle, Receiver: v.Receiver}
}

// Collides reports whether a message could be meant for either of two Uses: then neither may guess, and the later one is refused.
// AE titles that differ only in case or in surrounding spaces count as the same, because modalities get both wrong. An HL7 service
// without a receiver takes all of its port; one with an application only takes all facilities of it.
func (d Door) Collides(o Door) bool {
	if d.Port != o.Port {
		return false
	}
	if d.Protocol != o.Protocol {
		return true
	}
	if d.Protocol == wire.DICOM {
		return strings.EqualFold(strings.TrimSpace(d.AETitle), strings.TrimSpace(o.AETitle))
	}
	if d.Receiver == "" || o.Receiver == "" {
		return true
	}
	dApp, dFacility, dExact := strings.Cut(d.Receiver, "^")
	oApp, oFacility, oExact := strings.Cut(o.Receiver, "^")
	if !strings.EqualFold(dApp, oApp) {
		return false
	}
	return !dExact || !oExact || strings.EqualFold(dFacility, oFacility)
}
