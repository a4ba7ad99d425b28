package dicom

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/towpath/towpath/proxy/dicom/pdu"
)

// Rules say who may use a route. The zero value lets everybody in.
type Rules struct {
	// Callers are the calling AE titles that may; none is all. Upper and lower case count (PS3.8 table 9-11), blanks around do not.
	Callers []string
	// Sources are where they may call from; none is everywhere.
	Sources []netip.Prefix
	// Classes are the SOP classes that are taken; none is all. Queued routes only.
	Classes []string
	// Rate is how many associations one device may begin in a minute; 0 is no bound.
	Rate int
	// Approved lets only devices in that an operator has approved.
	Approved bool
	// Site is named in what operators are told to type.
	Site string
}

// verdict of a Rules: the zero value lets the device in.
type turnedAway struct {
	rj  pdu.AssociateRJ
	why string
}

func byUser(reason uint8, format string, a ...any) turnedAway {
	return turnedAway{
		rj:  pdu.AssociateRJ{Result: pdu.RejectedPermanent, Source: pdu.SourceUser, Reason: reason},
		why: fmt.Sprintf(format, a...),
	}
}

// judge says whether a device may use the service. The sentence names who must change what.
func (r Rules) judge(service, calling string, from netip.Addr, book *Devices, now time.Time) turnedAway {
	shown := printable(calling)
	if len(r.Sources) > 0 && !slices.ContainsFunc(r.Sources, func(p netip.Prefix) bool { return p.Contains(from) }) {
		return byUser(pdu.UserNoReason, "%s calls from %v, and service %s is for %s only: give the device an address there, or run "+
			"\"towpath service set %s --source\" with its network", shown, from, service, joined(r.Sources), service)
	}
	if len(r.Callers) > 0 && !slices.Contains(r.Callers, calling) {
		return byUser(pdu.UserCallingAE, "the calling AE title %s may not use service %s%s: correct it in the sending device, or run "+
			"\"towpath service set %s --caller\" with all that may", quoted(calling), service, nearMiss(calling, r.Callers), service)
	}
	switch state, known := book.state(calling, from); {
	case state == deviceDenied:
		return byUser(pdu.UserCallingAE, "an operator has denied %s at %v: if that was wrong, run \"towpath device approve --site %s %s\"",
			shown, from, r.Site, shellWord(shown))
	case r.Approved && state == deviceElsewhere:
		return byUser(pdu.UserCallingAE, "%s is approved, but not at %v from where it calls: if the device has moved, run \"towpath device approve --site %s %s\"",
			shown, from, r.Site, shellWord(shown))
	case r.Approved && state != deviceApproved:
		return byUser(pdu.UserCallingAE, "nobody has approved %s at %v yet, and service %s is for approved devices only%s: run "+
			"\"towpath device approve --site %s %s\"", quoted(calling), from, service, nearMiss(calling, known), r.Site, shellWord(shown))
	}
	if !book.mayCall(service, calling, from, r.Rate, now) {
		return turnedAway{
			rj: pdu.AssociateRJ{Result: pdu.RejectedTransient, Source: pdu.SourcePresentation, Reason: pdu.PresentationLocalLimit},
			why: fmt.Sprintf("%s at %v has begun more than %d associations with service %s in a minute: let the device send several objects in one, or run "+
				"\"towpath service set %s --rate\" with a higher number", shown, from, r.Rate, service, service),
		}
	}
	return turnedAway{}
}

// nearMiss names the AE title that was probably meant.
func nearMiss(title string, known []string) string {
	for _, k := range known {
		switch {
		case k == title:
		case strings.EqualFold(k, title):
			return fmt.Sprintf(", but %q may, and upper and lower case count", k)
		case strings.EqualFold(squeeze(k), squeeze(title)):
			return fmt.Sprintf(", but %q may, which differs only in blanks, hyphens or underscores", k)
		}
	}
	return ""
}

// quoted shows an AE title with what a person may overlook in it.
func quoted(title string) string { return fmt.Sprintf("%q", printable(title)) }

func shellWord(s string) string {
	if strings.ContainsAny(s, " \"'$&|;<>()*?") {
		return "'" + strings.ReplaceAll(s, "'", "?") + "'"
	}
	return s
}

func joined(list []netip.Prefix) string {
	var out []string
	for _, p := range list[:min(len(list), 4)] {
		out = append(out, p.String())
	}
	return strings.Join(out, ", ")
}
