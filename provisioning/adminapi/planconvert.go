package adminapi

import (
	"cmp"
	"math"
	"slices"

	"github.com/towpath/towpath/ipam"
	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/coordinator"
)

func planView(p coordinator.Plan) Plan {
	return Plan{Pools: each(p.Pools, poolView), Ranges: each(p.Ranges, rangeView), QuarantineSeconds: seconds(p.Quarantine)}
}

func poolView(p coordinator.PoolInfo) Pool {
	return Pool{
		ID: p.ID, Prefix: p.Prefix, Label: p.Label, Note: p.Note, Created: p.Created, Parent: p.Parent, Depth: p.Depth,
		Taken: p.Usage.Taken, LargestFree: p.Usage.Largest, FreeBlocks: p.Usage.Blocks, Fragmentation: p.Usage.Fragmentation,
		Strip: each(p.Strip, rounded),
	}
}

// rounded keeps enough of a fraction for a picture, and never makes nothing of a little or all of almost all.
func rounded(f float64) float64 {
	const steps = 10_000
	switch r := math.Round(f*steps) / steps; {
	case r == 0 && f > 0:
		return 1. / steps
	case r == 1 && f < 1:
		return 1 - 1./steps
	default:
		return r
	}
}

func rangeView(r coordinator.RangeInfo) Range {
	v := Range{
		ID: r.ID, Kind: string(r.Kind), Prefix: r.Prefix, Purpose: string(r.Purpose), Owner: r.OwnerName, Label: r.Label, Maps: r.Maps,
		Pool: r.Pool, State: StateActive, Note: r.Note, Created: r.Created, Until: r.Until,
	}
	switch {
	case r.Quarantined():
		v.State = StateQuarantined
	case r.Ending():
		v.State = StateEnding
	}
	return v
}

func sitePlanView(p coordinator.SitePlan) SitePlan {
	return SitePlan{
		Site: p.Site.Name, Kind: string(p.Site.Kind), Title: p.Site.Title, Ranges: each(p.Ranges, rangeView),
		Nodes: each(p.Nodes, func(n provisioning.Node) Place {
			return Place{Node: string(n.ID), Hostname: cmp.Or(n.Name, n.Facts.Hostname), Address: n.Address, Former: n.Former}
		}),
		Services: each(p.Services, serviceView),
		Mappings: each(p.Mappings, func(m ipam.Mapping) Mapping { return Mapping{LAN: m.LAN, Mapped: m.Mapped, Text: m.String()} }),
		Findings: each(p.Findings, findingView),
	}
}

func findingView(f coordinator.Finding) Finding {
	return Finding{
		Code: f.Code, Severity: f.Severity, Site: f.Site, Node: string(f.Node), Prefix: f.Prefix, With: f.With,
		Message: f.Message, Proposal: f.Proposal,
	}
}

func freeView(f coordinator.FreeSpace) Free {
	return Free{Pool: f.Pool, Blocks: list(f.Blocks), Total: f.Total, Bits: f.Bits, Next: f.Next, Fits: f.Fits}
}

func renumberingView(r coordinator.Renumbering) Renumbering {
	return Renumbering{
		Site: r.Site, Old: list(r.Old), New: r.New, Until: r.Until, Done: r.Done,
		Nodes: each(r.Nodes, func(n coordinator.MovedNode) MovedNode {
			return MovedNode{Node: string(n.Node), Hostname: n.Hostname, Old: n.Old, New: n.New}
		}),
		Services: each(r.Services, func(v coordinator.MovedService) MovedService {
			users := list(v.Users)
			slices.Sort(users)
			return MovedService{Service: v.Service, Protocol: v.Protocol, AETitle: v.AETitle, Old: v.Old, New: v.New, Users: users}
		}),
	}
}

func layoutView(l coordinator.Layout) Layout {
	return Layout{
		Pools:    each(l.Pools, func(r provisioning.Range) Range { return rangeView(coordinator.RangeInfo{Range: r}) }),
		Capacity: l.Capacity, Done: l.Done,
	}
}

func rangeEventView(e provisioning.RangeEvent) RangeEvent {
	return RangeEvent{
		Seq: e.Seq, At: e.At, Actor: e.Actor, Action: string(e.Action),
		Range: rangeView(coordinator.RangeInfo{Range: e.Range, OwnerName: e.OwnerName}),
	}
}
