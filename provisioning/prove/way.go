package prove

import (
	"strings"

	"github.com/towpath/towpath/provisioning/wire"
)

// sameHL7 holds that an offer says of HL7 what the service does, and of another protocol nothing.
func sameHL7(o wire.Offer, v Service) bool {
	if v.Protocol != wire.HL7 {
		return o.Receiver == "" && o.Mode == "" && o.HL7 == (wire.HL7Options{})
	}
	return o.Receiver == v.Receiver && o.Mode == v.Mode && o.HL7 == v.HL7
}

// doors are the ways in from the LAN of one node.
type doors struct {
	protocol map[uint16]wire.Use
	exact    map[doorKey]string
}

// doorKey is a question that a message can answer in one way only.
type doorKey struct {
	port           uint16
	receiver, kind string
}

func newDoors() doors { return doors{protocol: map[uint16]wire.Use{}, exact: map[doorKey]string{}} }

// enter adds a use and returns an earlier one that a message for it could be meant for. AE titles count without case and the spaces
// around them. An HL7 use without receiver takes all of its port, one with an application takes all facilities of it; one without types
// takes all messages, a type without trigger all triggers of it. What takes copies is meant besides others, never instead.
func (d doors) enter(u wire.Use) (string, bool) {
	first, shared := d.protocol[u.LANPort]
	if !shared {
		d.protocol[u.LANPort] = u
	}
	if shared && first.Protocol != u.Protocol {
		return first.Service, true
	}
	if u.Protocol == wire.DICOM {
		k := doorKey{u.LANPort, fold(strings.TrimSpace(u.AETitle)), ""}
		if other, taken := d.exact[k]; taken {
			return other, true
		}
		d.exact[k] = u.Service
		return "", false
	}
	if u.HL7.Copy {
		return "", false
	}
	receivers, kinds := receiverScopes(u.Receiver), [][]string{{""}}
	if types := u.HL7.TypeList(); len(types) > 0 {
		kinds = nil
		for _, t := range types {
			kinds = append(kinds, kindScopes(t))
		}
	}
	for _, k := range kinds {
		if other, taken := d.met(u.LANPort, receivers, k); taken {
			return other, true
		}
	}
	for _, k := range kinds {
		d.settle(u, receivers, k)
	}
	return "", false
}

// receiverScopes are the scope of a receiver and those that contain it, widest first.
func receiverScopes(receiver string) []string {
	app, _, one := strings.Cut(receiver, "^")
	switch {
	case receiver == "":
		return []string{""}
	case !one:
		return []string{"", fold(app)}
	}
	return []string{"", fold(app), fold(receiver)}
}

func kindScopes(kind string) []string {
	code, _, one := strings.Cut(kind, "^")
	if !one {
		return []string{"", code}
	}
	return []string{"", code, kind}
}

// Two scopes meet when one contains the other. So each use marks its own scope as whole, and those that contain it as touched; it meets
// another where that one's whole scope contains its own, or touches it, in both dimensions.
const (
	whole   = "whole "
	touched = "touched "
)

func (d doors) met(port uint16, receivers, kinds []string) (string, bool) {
	for i, r := range receivers {
		for j, k := range kinds {
			marks := []doorKey{{port, whole + r, whole + k}}
			if i == len(receivers)-1 {
				marks = append(marks, doorKey{port, touched + r, whole + k})
			}
			if j == len(kinds)-1 {
				marks = append(marks, doorKey{port, whole + r, touched + k})
			}
			if i == len(receivers)-1 && j == len(kinds)-1 {
				marks = append(marks, doorKey{port, touched + r, touched + k})
			}
			for _, m := range marks {
				if other, taken := d.exact[m]; taken {
					return other, true
				}
			}
		}
	}
	return "", false
}

func (d doors) settle(u wire.Use, receivers, kinds []string) {
	mark := func(r, k string) {
		key := doorKey{u.LANPort, r, k}
		if _, taken := d.exact[key]; !taken {
			d.exact[key] = u.Service
		}
	}
	for i, r := range receivers {
		for j, k := range kinds {
			lastR, lastK := i == len(receivers)-1, j == len(kinds)-1
			mark(touched+r, touched+k)
			if lastR {
				mark(whole+r, touched+k)
			}
			if lastK {
				mark(touched+r, whole+k)
			}
			if lastR && lastK {
				mark(whole+r, whole+k)
			}
		}
	}
}
