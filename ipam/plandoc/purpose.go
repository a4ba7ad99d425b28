package plandoc

import (
	"fmt"
	"slices"
	"strings"

	"github.com/towpath/towpath/ipam"
)

// The purposes of an allocation.
const (
	// Overlay holds the addresses of boxes. An allocation that is read without a purpose has this one, unless it maps something.
	Overlay = "overlay"
	// Mapped stands for a part of the site's LAN, see Entry.Maps.
	Mapped = "mapped"
	// Workstation holds the addresses of single computers that dial in.
	Workstation = "workstation"
	// Services holds fixed addresses of services.
	Services = "services"
)

// The purposes of a reported range: what it is to the box.
const (
	ReportedLAN       = "lan"
	ReportedWAN       = "wan"
	ReportedContainer = "container"
)

// purposes are those that a range of the kind may have, none for most kinds.
func purposes(k Kind) []string {
	switch k {
	case Allocation:
		return []string{Overlay, Mapped, Workstation, Services}
	case Reported:
		return []string{ReportedLAN, ReportedWAN, ReportedContainer}
	default:
		return nil
	}
}

// parsePurpose reads a purpose in English or German. What an allocation without one is for, the rest of its line says.
func parsePurpose(s string, k Kind, maps bool) string {
	switch word := strings.ToLower(s); {
	case k == Allocation && word == "" && maps:
		return Mapped
	case k == Allocation && word == "":
		return Overlay
	case slices.Contains(purposes(k), word):
		return word
	case k == Allocation:
		return allocationPurpose(s, word)
	case k == Reported && slices.Contains([]string{"internet", "anbieter"}, word):
		return ReportedWAN
	case k == Reported && slices.Contains([]string{"containers", "docker", "containernetz"}, word):
		return ReportedContainer
	}
	return s
}

// allocationPurpose returns what a word means, or s as it was written.
func allocationPurpose(s, word string) string {
	switch word {
	case "box", "boxes", "boxen", "gateway", "gateways", "overlay-netz", "overlaynetz":
		return Overlay
	case "mapping", "abbildung", "abgebildet", "abgebildetes lan", "umsetzung", "umgesetzt":
		return Mapped
	case "workstations", "arbeitsplatz", "arbeitsplätze", "arbeitsplaetze", "arbeitsplatzrechner", "arbeitsstation", "arbeitsstationen":
		return Workstation
	case "service", "dienst", "dienste":
		return Services
	}
	return s
}

func (e Entry) validatePurpose() error {
	may := purposes(e.Kind)
	switch {
	case slices.Contains(may, e.Purpose), len(may) == 0 && e.Purpose == "":
		return nil
	case len(may) == 0:
		return fmt.Errorf("%v can have no purpose: write %q into the comment", e, clip(e.Purpose))
	case e.Purpose == "":
		return fmt.Errorf("%v has no purpose: use %s", e, wordList(may))
	}
	return fmt.Errorf("%v cannot have the purpose %q: use %s, and write other words into the comment", e, clip(e.Purpose), wordList(may))
}

func (e Entry) validateMaps() error {
	switch maps := e.Maps.IsValid(); {
	case e.Purpose == Mapped && !maps:
		return fmt.Errorf("%v is mapped, but does not say what it maps: name the part of the LAN that it stands for", e)
	case !maps:
		return nil
	case e.Purpose != Mapped:
		return fmt.Errorf("%v maps %v, but its purpose is not %s", e, e.Maps, Mapped)
	case !network(e.Maps):
		return fmt.Errorf("%w: %v is no network that %v could map", ipam.ErrMalformed, e.Maps, e)
	case ipam.FamilyOf(e.Maps) != ipam.FamilyOf(e.Prefix) || e.Maps.Bits() != e.Prefix.Bits():
		return fmt.Errorf("%v cannot map %v: both must be of one family and length", e, e.Maps)
	}
	return nil
}

// reportedName is what a sentence calls a reported range.
func reportedName(purpose string) string {
	switch purpose {
	case ReportedLAN:
		return "LAN"
	case ReportedWAN:
		return "WAN"
	case ReportedContainer:
		return "container network"
	}
	return "network"
}

// wordList is "a, b or c".
func wordList(words []string) string {
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}
