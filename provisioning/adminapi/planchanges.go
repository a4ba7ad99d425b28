package adminapi

import (
	"cmp"
	"context"
	"net/http"
	"slices"

	"github.com/towpath/towpath/ipam/plandoc"
	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/coordinator"
)

// planChanges registers what changes the plan.
func (s *server) planChanges() {
	s.rangeChanges()
	s.planWide()
	serve(s, s.operation("renumber", http.MethodPost, "/v1/plan/renumberings", "plan",
		"Give a site new addresses beside the old ones, until these end", http.StatusOK), s.renumber)
	serve(s, s.operation("end-renumbering", http.MethodDelete, "/v1/plan/renumberings/{site}", "plan", "End the old addresses of a site now", http.StatusOK),
		func(ctx context.Context, in *sitePath) (Renumbering, error) {
			r, err := s.c.EndRenumbering(ctx, actorOf(ctx), in.Site)
			return renumberingView(r), err
		})
}

// rangeChanges registers what is about single ranges.
func (s *server) rangeChanges() {
	serve(s, s.operation("add-range", http.MethodPost, "/v1/ranges", "plan",
		"Add a pool, keep a range from being allocated, or note a network that is there", http.StatusCreated),
		func(ctx context.Context, in *body[NewRange]) (Range, error) {
			p, err := parsePrefix(in.Body.Prefix)
			if err != nil {
				return Range{}, err
			}
			r, err := s.c.AddRange(ctx, actorOf(ctx), coordinator.NewRange{
				Kind: provisioning.RangeKind(in.Body.Kind), Prefix: p, Site: in.Body.Site, Label: in.Body.Label, Note: in.Body.Note, Force: in.Body.Force,
			})
			return rangeView(coordinator.RangeInfo{Range: r, OwnerName: in.Body.Site}), err
		})
	serveEmpty(s, s.operation("remove-range", http.MethodDelete, "/v1/ranges/{id}", "plan",
		"Remove a range that nobody has, or end a quarantine", http.StatusNoContent),
		func(ctx context.Context, in *rangePath) error { return s.c.RemoveRange(ctx, actorOf(ctx), in.ID) })
	serve(s, s.operation("allocate", http.MethodPost, "/v1/plan/allocations", "plan", "Give a site a further range", http.StatusCreated),
		func(ctx context.Context, in *body[NewAllocation]) (Range, error) {
			p, err := optionalPrefix(in.Body.Prefix)
			if err != nil {
				return Range{}, err
			}
			r, err := s.c.Allocate(ctx, actorOf(ctx), coordinator.NewAllocation{
				Site: in.Body.Site, Purpose: provisioning.RangePurpose(in.Body.Purpose), Prefix: p,
				Size: coordinator.Size{Hosts: in.Body.Hosts, Bits: in.Body.Bits}, Pool: in.Body.Pool, Label: in.Body.Label, Note: in.Body.Note,
			})
			return rangeView(r), err
		})
	serve(s, s.operation("reserve", http.MethodPost, "/v1/plan/reservations", "plan", "Keep a range from being allocated", http.StatusCreated),
		func(ctx context.Context, in *body[NewReservation]) (Range, error) {
			p, err := optionalPrefix(in.Body.Prefix)
			if err != nil {
				return Range{}, err
			}
			r, err := s.c.Reserve(ctx, actorOf(ctx), coordinator.NewReservation{
				Prefix: p, Size: coordinator.Size{Hosts: in.Body.Hosts, Bits: in.Body.Bits}, Pool: in.Body.Pool, Site: in.Body.Site,
				Label: in.Body.Label, Note: in.Body.Note,
			})
			return rangeView(r), err
		})
	serve(s, s.operation("release", http.MethodPost, "/v1/plan/release", "plan",
		"Take an allocation or reservation from its owner and quarantine it", http.StatusOK),
		func(ctx context.Context, in *body[Release]) (Range, error) {
			r, err := s.c.Release(ctx, actorOf(ctx), in.Body.Range, in.Body.Now)
			return rangeView(r), err
		})
	serve(s, s.operation("grow", http.MethodPost, "/v1/plan/growth", "plan", "Make an allocation wider where it is", http.StatusOK),
		func(ctx context.Context, in *body[Growth]) (Grown, error) {
			g, err := s.c.Grow(ctx, actorOf(ctx), in.Body.Range, coordinator.Size{Hosts: in.Body.Hosts, Bits: in.Body.Bits})
			return Grown{Before: rangeView(g.Before), After: rangeView(g.After)}, err
		})
}

func (s *server) renumber(ctx context.Context, in *body[NewRenumbering]) (Renumbering, error) {
	p, err := optionalPrefix(in.Body.Prefix)
	if err != nil {
		return Renumbering{}, err
	}
	keep, err := duration("the time that old and new addresses both work", in.Body.KeepSeconds)
	if err != nil {
		return Renumbering{}, err
	}
	r, err := s.c.Renumber(ctx, actorOf(ctx), coordinator.RenumberRequest{
		Site: in.Body.Site, Prefix: p, Size: coordinator.Size{Hosts: in.Body.Hosts, Bits: in.Body.Bits}, Pool: in.Body.Pool, Keep: keep,
		DryRun: in.Body.DryRun,
	})
	return renumberingView(r), err
}

// planWide registers what is about the plan as a whole.
func (s *server) planWide() {
	op := s.operation("import-plan", http.MethodPost, "/v1/plan/import", "plan", "Take over a plan, all of it or nothing", http.StatusOK)
	op.MaxBodyBytes, op.BodyReadTimeout = maxImport, importTimeout
	serve(s, op, s.importPlan)
	serve(s, s.operation("lay-out", http.MethodPost, "/v1/plan/layout", "plan", "Add pools for a plan", http.StatusOK),
		func(ctx context.Context, in *body[NewLayout]) (Layout, error) {
			r := coordinator.LayoutRequest{
				Sites: in.Body.Sites, Hosts: in.Body.Hosts, Regions: in.Body.Regions, ULA: in.Body.ULA, Force: in.Body.Force, DryRun: in.Body.DryRun,
			}
			for _, text := range in.Body.Pools {
				p, err := parsePrefix(text)
				if err != nil {
					return Layout{}, err
				}
				r.Pools = append(r.Pools, p)
			}
			l, err := s.c.LayOut(ctx, actorOf(ctx), r)
			return layoutView(l), err
		})
	serveEmpty(s, s.operation("set-quarantine", http.MethodPut, "/v1/plan/quarantine", "plan",
		"Say how long what is released from now on stays unused", http.StatusNoContent),
		func(ctx context.Context, in *body[Quarantine]) error {
			d, err := duration("the quarantine", in.Body.Seconds)
			if err != nil {
				return err
			}
			return s.c.SetQuarantine(ctx, actorOf(ctx), d)
		})
}

func (s *server) importPlan(ctx context.Context, in *body[NewImport]) (ImportResult, error) {
	d, problems, err := in.Body.Plan.document()
	if err != nil {
		return ImportResult{}, err
	}
	o := coordinator.ImportOptions{DryRun: in.Body.DryRun || len(problems) > 0, CreateSites: in.Body.CreateSites, Force: in.Body.Force}
	r, err := s.c.Import(ctx, actorOf(ctx), d, o)
	if err != nil {
		return ImportResult{}, err
	}
	if len(problems) > 0 {
		r.Changes, r.Sites = nil, nil
	}
	r.Problems = append(problems, r.Problems...)
	slices.SortStableFunc(r.Problems, func(a, b plandoc.Problem) int { return cmp.Compare(a.Line, b.Line) })
	return importView(r)
}
