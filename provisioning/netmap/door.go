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
	// Receiver is that of an HL7 Service, Types are its message types, and Copy is set if it takes what is meant for others, too.
	Receiver string
	Types    []string
	Copy     bool
}

// NewDoor is the Door of a Service granted at a LAN port.
func NewDoor(v provisioning.Service, lanPort uint16) Door {
	return Door{
		Port: lanPort, Protocol: v.Protocol, AETitle: v.AETitle, Receiver: v.Receiver, Types: v.HL7.TypeList(), Copy: v.HL7.Copy,
	}
}

// Collides reports whether a message could be meant for either of two Uses: then neither may guess, and the later one is refused.
// AE titles that differ only in case or in surrounding spaces count as the same, because modalities get both wrong. An HL7 service
// without a receiver takes all of its port; one with an application only takes all facilities of it. Of those that share receivers, no two
// may take the same message type, of which one without trigger event takes all of them. What takes copies collides with nobody.
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
	if d.Copy || o.Copy || !typesMeet(d.Types, o.Types) {
		return false
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
	every    typeSet                 // HL7: the types of all receivers
	all      typeSet                 // those taken for all receivers
	apps     map[string]*application // the others
}

// application is a receiving application.
type application struct {
	every      typeSet             // the types of all its facilities
	whole      typeSet             // those taken for all of it
	facilities map[string]*typeSet // the others
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
	return d.Copy || w.enter(d)
}

// enter adds an HL7 Door unless it collides.
func (w *doorway) enter(d Door) bool {
	if d.Receiver == "" {
		return enterTypes(d.Types, []*typeSet{&w.every}, []*typeSet{&w.all, &w.every})
	}
	name, facility, exact := strings.Cut(d.Receiver, "^")
	a := w.apps[fold(name)]
	if a == nil {
		a = &application{facilities: map[string]*typeSet{}}
		w.apps[fold(name)] = a
	}
	if !exact {
		return enterTypes(d.Types, []*typeSet{&w.all, &a.every}, []*typeSet{&w.every, &a.every, &a.whole})
	}
	f := a.facilities[fold(facility)]
	if f == nil {
		f = &typeSet{}
		a.facilities[fold(facility)] = f
	}
	return enterTypes(d.Types, []*typeSet{&w.all, &a.whole, f}, []*typeSet{&w.every, &a.every, f})
}

// enterTypes adds types to sets unless they meet one of others.
func enterTypes(types []string, others, sets []*typeSet) bool {
	for _, o := range others {
		if o.meets(types) {
			return false
		}
	}
	for _, s := range sets {
		s.add(types)
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
