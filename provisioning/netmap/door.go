package netmap

import (
	"strings"
	"unicode"

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

// doors are those of one site, of which no two collide. It answers as Collides does with each, in a time that does not grow with them: a
// center may have one for every clinic.
type doors map[uint16]*doorway

// doorway is what is behind one port.
type doorway struct {
	protocol wire.Protocol
	titles   map[string]bool         // DICOM: AE titles
	all      bool                    // HL7: one takes every message
	apps     map[string]*application // HL7: the others
}

// application is a receiving application: all of it, or single facilities.
type application struct {
	whole      bool
	facilities map[string]bool
}

// enter adds a Door unless it collides, and reports whether it did.
func (s doors) enter(d Door) bool {
	w, shared := s[d.Port]
	if !shared {
		w = &doorway{protocol: d.Protocol, titles: map[string]bool{}, apps: map[string]*application{}}
		s[d.Port] = w
	}
	if w.protocol != d.Protocol {
		return false
	}
	if d.Protocol == wire.DICOM {
		title := fold(strings.TrimSpace(d.AETitle))
		free := !w.titles[title]
		w.titles[title] = true
		return free
	}
	if w.all || shared && d.Receiver == "" {
		return false
	}
	if d.Receiver == "" {
		w.all = true
		return true
	}
	name, facility, exact := strings.Cut(d.Receiver, "^")
	a, known := w.apps[fold(name)]
	switch {
	case !known:
		a = &application{whole: !exact, facilities: map[string]bool{}}
		w.apps[fold(name)] = a
	case a.whole || !exact || a.facilities[fold(facility)]:
		return false
	}
	if exact {
		a.facilities[fold(facility)] = true
	}
	return true
}

// fold makes equal what strings.EqualFold finds equal.
func fold(s string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			least = min(least, f)
		}
		return least
	}, s)
}
