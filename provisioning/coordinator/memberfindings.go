package coordinator

import (
	"fmt"
	"strings"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/wire"
)

// membershipFacts is what Findings about who is in the network are made of, besides the database.
type membershipFacts struct {
	unsigned []UnsignedMember
	awaited  map[provisioning.NodeID][]string
	told     uint64
	toldBy   provisioning.NodeID
}

// membership fills them in.
func (f *finder) membership(c *Coordinator) {
	if c.keys.Offline() {
		f.members.unsigned = c.keys.unsigned(f.s)
	}
	f.members.awaited = map[provisioning.NodeID][]string{}
	for _, n := range f.s.Nodes {
		if n.Rotate == wire.RotateWait {
			f.members.awaited[n.ID] = c.turning.get(n.ID).awaited
		}
	}
	f.members.told, f.members.toldBy = c.restored.highest()
}

func (f *finder) memberFindings() {
	f.restored()
	for _, n := range f.s.Nodes {
		f.quarantined(n)
		f.rotating(n)
	}
	for _, u := range f.members.unsigned {
		f.unsignedMember(u)
	}
}

func (f *finder) restored() {
	m := f.members
	if m.told <= f.s.Generation {
		return
	}
	f.add(Finding{
		Code: FindingRestored, Severity: severityError, Node: m.toldBy,
		Message: fmt.Sprintf("node %s has a map of generation %d and this database is at %d: it was restored from a backup, and boxes with newer maps refuse what it says",
			m.toldBy, m.told, f.s.Generation),
		Proposal: "towpath coordinator restored",
	})
}

func (f *finder) quarantined(n provisioning.Node) {
	if n.State != provisioning.NodeQuarantined {
		return
	}
	x := Finding{Site: f.names[string(n.Site)], Node: n.ID}
	when := n.Since.Format(time.DateTime)
	if strings.HasPrefix(n.Reason, reasonCloned) {
		x.Code, x.Severity = FindingClone, severityError
		x.Message = fmt.Sprintf("node %s of site %s is shut out since %s: %s. Somebody has copied its key, or two machines run from one disk",
			n.ID, x.Site, when, n.Reason)
		x.Proposal = fmt.Sprintf("towpath node replace %s", n.ID)
	} else {
		x.Code, x.Severity = FindingQuarantined, severityWarning
		x.Message = fmt.Sprintf("node %s of site %s is shut out since %s: %s", n.ID, x.Site, when, n.Reason)
		x.Proposal = fmt.Sprintf("towpath node readmit %s", n.ID)
	}
	f.add(x)
}

func (f *finder) rotating(n provisioning.Node) {
	if n.Rotate == "" {
		return
	}
	x := Finding{
		Code: FindingRotation, Severity: severityInfo, Site: f.names[string(n.Site)], Node: n.ID,
		Proposal: fmt.Sprintf("towpath node rotate %s --cancel", n.ID),
	}
	what := "it is to make a new key"
	switch n.Rotate {
	case wire.RotateWait:
		what = "all others are told"
		if a := f.members.awaited[n.ID]; len(a) > 0 {
			what = "the new key is still to be known to " + shorten(a)
		}
	case wire.RotateTurn:
		what = "it is to call with the new key"
	case wire.RotateMake:
	}
	x.Message = fmt.Sprintf("node %s of site %s is changing its key: %s", n.ID, x.Site, what)
	f.add(x)
}

func (f *finder) unsignedMember(u UnsignedMember) {
	m := u.Member
	since := ""
	if !u.Since.IsZero() {
		since = " since " + u.Since.Format(time.DateTime)
	}
	what := "has changed and works as it was"
	if u.Last == nil {
		what = "is not signed and does not take part"
	}
	f.add(Finding{
		Code: FindingUnsigned, Severity: severityWarning, Site: m.Site, Node: provisioning.NodeID(m.Node),
		Message:  fmt.Sprintf("node %s of site %s %s: it waits for the network's offline key%s", m.Node, m.Site, what, since),
		Proposal: "towpath coordinator unsigned --out FILE, then \"towpath sign\" where the key is, then \"towpath coordinator signed FILE\"",
	})
}
