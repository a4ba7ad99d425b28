package dicom

import (
	"slices"

	"github.com/towpath/towpath/proxy/dicom/dimse"
	"github.com/towpath/towpath/proxy/dicom/pdu"
)

// admission decides which presentation contexts a queued route or an Archive accepts.
type admission struct {
	// twin is the archive behind a queued route; nil, or one that knows nothing, takes all that can be stored and forwarded.
	twin *Twin
	// hold accepts what the archive refuses, too.
	hold bool
	// reports accepts storage commitment for archives that report, pledges for devices that ask.
	reports, pledges bool
	// classes are the SOP classes that are taken; none is all.
	classes []string
	// nothing accepts no object.
	nothing bool
}

// strict is the Twin whose word counts, or nil.
func (a admission) strict() *Twin {
	if a.hold || a.twin.Capabilities() == nil {
		return nil
	}
	return a.twin
}

// negotiate answers each proposed context: verification, all storage classes and storage commitment where that has a meaning, in a
// transfer syntax that is easy to take on, and of these only what the archive takes. Refused is one kind for each storage context that
// was refused because the archive does not take it, and stored how many were accepted.
func (a admission) negotiate(rq *pdu.AssociateRQ) (answer []pdu.AcceptedContext, refused []kind, stored int) {
	answer = make([]pdu.AcceptedContext, 0, len(rq.Contexts))
	for _, pc := range rq.Contexts {
		ac := pdu.AcceptedContext{ID: pc.ID, TransferSyntax: chooseTransferSyntax(pc.TransferSyntaxes)}
		switch {
		case pc.AbstractSyntax == StorageCommitment:
			ac.TransferSyntax, ac.Result = a.commitContext(pc.TransferSyntaxes)
		case pc.AbstractSyntax == Verification && ac.TransferSyntax != "":
		case pc.AbstractSyntax != Verification && (a.nothing || !IsStorageClass(pc.AbstractSyntax) || !a.listed(pc.AbstractSyntax)):
			ac.Result = pdu.ContextAbstractSyntax
		case ac.TransferSyntax == "":
			ac.Result = pdu.ContextTransferSyntaxes
		default:
			first := kind{class: pc.AbstractSyntax, syntax: ac.TransferSyntax}
			if ac.TransferSyntax, ac.Result = a.choose(pc); ac.Result == pdu.ContextAccepted {
				stored++
			} else {
				refused = append(refused, first)
			}
		}
		if ac.TransferSyntax == "" {
			ac.TransferSyntax = ImplicitLittleEndian // not significant, but PS3.8 table 9-18 wants the item to be there
		}
		answer = append(answer, ac)
	}
	return answer, refused, stored
}

// listed reports whether the rules of the route let a SOP class in.
func (a admission) listed(class string) bool {
	return len(a.classes) == 0 || slices.Contains(a.classes, class)
}

// unlisted reports whether a peer offers storage, and of what the rules do not let in.
func (a admission) unlisted(rq *pdu.AssociateRQ) bool {
	return slices.ContainsFunc(rq.Contexts, func(pc pdu.ProposedContext) bool {
		return IsStorageClass(pc.AbstractSyntax) && !a.listed(pc.AbstractSyntax)
	})
}

// choose answers a storage context with what both the peer and the archive take. The choice among these is the acceptor's (PS3.7 §D.3.2):
// what nobody has to convert again on the way, see chooseTransferSyntax.
func (a admission) choose(pc pdu.ProposedContext) (string, pdu.ContextResult) {
	c := a.twin.Capabilities()
	t := a.strict()
	if c != nil {
		if _, asked := c.Classes[pc.AbstractSyntax]; !asked {
			a.twin.want(pc.AbstractSyntax)
		}
	}
	if t == nil {
		return chooseTransferSyntax(pc.TransferSyntaxes), pdu.ContextAccepted
	}
	result := pdu.ContextTransferSyntaxes
	fits := slices.DeleteFunc(slices.Clone(pc.TransferSyntaxes), func(syntax string) bool {
		v := c.judge(kind{class: pc.AbstractSyntax, syntax: syntax})
		if v == classRefused {
			result = pdu.ContextAbstractSyntax
		}
		return v == classRefused || v == syntaxRefused
	})
	if s := chooseTransferSyntax(fits); s != "" {
		return s, pdu.ContextAccepted
	}
	return "", result
}

// check answers 0122 to an object that the archive would refuse: what it takes may have changed since the association began, and some accept
// a context of which they take no object.
func (a admission) check(k kind) (dimse.Status, string) {
	if a.strict() == nil {
		return dimse.Success, ""
	}
	if why := a.twin.refuses(k); why != "" {
		return dimse.SOPClassNotSupported, why
	}
	return dimse.Success, ""
}
