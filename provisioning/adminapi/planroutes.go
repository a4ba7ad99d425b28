package adminapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"github.com/towpath/towpath/ipam"
	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/coordinator"
)

type (
	freeList struct {
		Pools []Free `json:"pools" nullable:"false"`
	}
	findingList struct {
		Findings []Finding `json:"findings" nullable:"false" doc:"the worst first"`
	}
	historyList struct {
		Events []RangeEvent `json:"events" nullable:"false"`
	}
)

type (
	rangePath struct {
		ID int64 `path:"id"`
	}
	freeInput struct {
		Pool  string `query:"pool" maxLength:"64" doc:"prefix, label or number; all pools if absent"`
		Hosts int    `query:"hosts" minimum:"0" doc:"room for so many addresses"`
		Bits  int    `query:"bits" minimum:"0" maximum:"128" doc:"a prefix of this length"`
	}
	historyInput struct {
		Prefix string `query:"prefix" required:"true" maxLength:"64" example:"10.201.7.0/28"`
		Limit  int    `query:"limit" minimum:"0" maximum:"1000" doc:"the newest so many; 0 means 100"`
	}
	mappingInput struct {
		Site string `path:"site" maxLength:"64" doc:"name or id"`
		Body NewMapping
	}
	mappingPath struct {
		Site string `path:"site" maxLength:"64" doc:"name or id"`
		// Ref is in the query because a prefix has a slash, which some proxies do not leave alone in a path.
		Ref string `query:"ref" required:"true" maxLength:"64" doc:"prefix on the LAN, mapped prefix or number"`
	}
)

const (
	// MaxHistory is how many events of a range one answer has at most, and defaultHistory unless more are asked for.
	MaxHistory     = 1000
	defaultHistory = 100
)

// plan registers what reads the plan.
func (s *server) plan() {
	serve(s, s.operation("get-plan", http.MethodGet, "/v1/plan", "plan", "The whole address plan", http.StatusOK),
		func(ctx context.Context, _ *none) (Plan, error) {
			p, err := s.c.Plan(ctx)
			return planView(p), err
		})
	serve(s, s.operation("get-site-plan", http.MethodGet, "/v1/plan/sites/{site}", "plan", "What the plan has of one site", http.StatusOK),
		func(ctx context.Context, in *sitePath) (SitePlan, error) {
			p, err := s.c.SitePlan(ctx, in.Site)
			return sitePlanView(p), err
		})
	serve(s, s.operation("list-findings", http.MethodGet, "/v1/plan/findings", "plan", "What is to be known about the plan, with what to do", http.StatusOK),
		func(ctx context.Context, _ *none) (findingList, error) {
			l, err := s.c.Findings(ctx)
			return findingList{each(l, findingView)}, err
		})
	serve(s, s.operation("list-free", http.MethodGet, "/v1/plan/free", "plan", "What is free, by pool", http.StatusOK),
		func(ctx context.Context, in *freeInput) (freeList, error) {
			l, err := s.c.Free(ctx, coordinator.FreeQuery{Pool: in.Pool, Size: coordinator.Size{Hosts: in.Hosts, Bits: in.Bits}})
			return freeList{each(l, freeView)}, err
		})
	serve(s, s.operation("list-history", http.MethodGet, "/v1/plan/history", "plan", "What happened to addresses, oldest first", http.StatusOK),
		func(ctx context.Context, in *historyInput) (historyList, error) {
			p, err := parsePrefix(in.Prefix)
			if err != nil {
				return historyList{}, err
			}
			if in.Limit == 0 {
				in.Limit = defaultHistory
			}
			l, err := s.c.History(ctx, p, in.Limit)
			return historyList{each(l, rangeEventView)}, err
		})
	serve(s, s.operation("export", http.MethodGet, "/v1/export", "plan", "Everything that a proof needs, and no secret", http.StatusOK),
		func(ctx context.Context, _ *none) (exported, error) {
			e, err := s.c.Export(ctx)
			if err != nil {
				return exported{}, err
			}
			input, err := json.Marshal(e.Input)
			return exported{Generation: e.Generation, Input: input}, err
		})
}

// mappings registers what makes LANs reachable at addresses of their own.
func (s *server) mappings() {
	serve(s, s.operation("create-mapping", http.MethodPost, "/v1/sites/{site}/mappings", "plan",
		"Make a part of a site's LAN reachable at a range of its own", http.StatusCreated),
		func(ctx context.Context, in *mappingInput) (Range, error) {
			n := coordinator.NewMapping{Site: in.Site, Pool: in.Body.Pool, Note: in.Body.Note}
			var err error
			if n.LAN, err = parsePrefix(in.Body.LAN); err != nil {
				return Range{}, err
			}
			if n.To, err = optionalPrefix(in.Body.To); err != nil {
				return Range{}, err
			}
			r, err := s.c.Map(ctx, actorOf(ctx), n)
			return rangeView(r), err
		})
	serve(s, s.operation("remove-mapping", http.MethodDelete, "/v1/sites/{site}/mappings", "plan", "End a mapping", http.StatusOK),
		func(ctx context.Context, in *mappingPath) (Range, error) {
			r, err := s.c.Unmap(ctx, actorOf(ctx), in.Site, in.Ref)
			return rangeView(r), err
		})
}

func parsePrefix(text string) (netip.Prefix, error) {
	p, err := ipam.ParsePrefix(text)
	if err != nil {
		return p, provisioning.Errorf(provisioning.Invalid, "%s", err).WithHint("write a range like 10.201.1.0/28")
	}
	return p, nil
}

// optionalPrefix is the zero Prefix when there is no text.
func optionalPrefix(text string) (netip.Prefix, error) {
	if text == "" {
		return netip.Prefix{}, nil
	}
	return parsePrefix(text)
}

// maxSeconds is the longest time that a request may name: ten years.
const maxSeconds = 10 * 366 * 24 * 60 * 60

// duration of seconds in a request; what is asked for is named in the refusal.
func duration(what string, seconds int64) (time.Duration, error) {
	if seconds < 0 || seconds > maxSeconds {
		return 0, provisioning.Errorf(provisioning.Invalid, "%s cannot be %s", what, spell(seconds)).WithHint("choose from 0 to ten years")
	}
	return time.Duration(seconds) * time.Second, nil
}

// spell writes a time that a request names, in days if it is whole ones.
func spell(seconds int64) string {
	const day = 24 * 60 * 60
	if seconds%day == 0 && seconds != 0 {
		return fmt.Sprintf("%d days", seconds/day)
	}
	return fmt.Sprintf("%d seconds", seconds)
}
