package adminapi

import (
	"context"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"github.com/towpath/towpath/ipam/plandoc"
)

// Plan returns the whole address plan.
func (c *Client) Plan(ctx context.Context) (Plan, error) {
	return call[Plan](ctx, c, http.MethodGet, "/v1/plan", nil)
}

// SitePlan returns what the plan has of one Site, by name or id.
func (c *Client) SitePlan(ctx context.Context, site string) (SitePlan, error) {
	return call[SitePlan](ctx, c, http.MethodGet, path("plan", "sites", site), nil)
}

// Findings returns what is to be known about the plan, the worst first.
func (c *Client) Findings(ctx context.Context) ([]Finding, error) {
	l, err := call[findingList](ctx, c, http.MethodGet, "/v1/plan/findings", nil)
	return l.Findings, err
}

// Free returns what is free, by pool.
func (c *Client) Free(ctx context.Context, q FreeQuery) ([]Free, error) {
	v := url.Values{}
	if q.Pool != "" {
		v.Set("pool", q.Pool)
	}
	if q.Hosts != 0 {
		v.Set("hosts", strconv.Itoa(q.Hosts))
	}
	if q.Bits != 0 {
		v.Set("bits", strconv.Itoa(q.Bits))
	}
	l, err := call[freeList](ctx, c, http.MethodGet, "/v1/plan/free?"+v.Encode(), nil)
	return l.Pools, err
}

// History returns what happened to the addresses of p, oldest first, the newest limit events. A limit of 0 means 100.
func (c *Client) History(ctx context.Context, p netip.Prefix, limit int) ([]RangeEvent, error) {
	v := url.Values{"prefix": {p.String()}, "limit": {strconv.Itoa(limit)}}
	l, err := call[historyList](ctx, c, http.MethodGet, "/v1/plan/history?"+v.Encode(), nil)
	return l.Events, err
}

// Export returns everything that a proof needs.
func (c *Client) Export(ctx context.Context) (Export, error) {
	return call[Export](ctx, c, http.MethodGet, "/v1/export", nil)
}

// AddRange adds a pool, keeps a range from being allocated, or notes a network that is there.
func (c *Client) AddRange(ctx context.Context, n NewRange) (Range, error) {
	return call[Range](ctx, c, http.MethodPost, "/v1/ranges", n)
}

// RemoveRange removes a range that nobody has, or ends a quarantine.
func (c *Client) RemoveRange(ctx context.Context, id int64) error {
	return c.send(ctx, http.MethodDelete, "/v1/ranges/"+strconv.FormatInt(id, 10), nil)
}

// Allocate gives a Site a further range.
func (c *Client) Allocate(ctx context.Context, n NewAllocation) (Range, error) {
	return call[Range](ctx, c, http.MethodPost, "/v1/plan/allocations", n)
}

// Reserve keeps a range from being allocated.
func (c *Client) Reserve(ctx context.Context, n NewReservation) (Range, error) {
	return call[Range](ctx, c, http.MethodPost, "/v1/plan/reservations", n)
}

// Release takes an allocation or reservation from its owner and quarantines it.
func (c *Client) Release(ctx context.Context, r Release) (Range, error) {
	return call[Range](ctx, c, http.MethodPost, "/v1/plan/release", r)
}

// Grow makes an allocation wider where it is.
func (c *Client) Grow(ctx context.Context, g Growth) (Grown, error) {
	return call[Grown](ctx, c, http.MethodPost, "/v1/plan/growth", g)
}

// Renumber gives a Site new addresses beside the old ones, until these end.
func (c *Client) Renumber(ctx context.Context, n NewRenumbering) (Renumbering, error) {
	return call[Renumbering](ctx, c, http.MethodPost, "/v1/plan/renumberings", n)
}

// EndRenumbering ends the old addresses of a Site now.
func (c *Client) EndRenumbering(ctx context.Context, site string) (Renumbering, error) {
	return call[Renumbering](ctx, c, http.MethodDelete, path("plan", "renumberings", site), nil)
}

// ImportPlan takes over a plan, all of it or nothing. Lines of the document come back in the problems.
func (c *Client) ImportPlan(ctx context.Context, d plandoc.Document, o ImportOptions) (ImportResult, error) {
	plan, err := documentOf(d)
	if err != nil {
		return ImportResult{}, err
	}
	return call[ImportResult](ctx, c, http.MethodPost, "/v1/plan/import", NewImport{Plan: plan, ImportOptions: o})
}

// LayOut adds pools for a plan.
func (c *Client) LayOut(ctx context.Context, n NewLayout) (Layout, error) {
	return call[Layout](ctx, c, http.MethodPost, "/v1/plan/layout", n)
}

// SetQuarantine says how long what is released from now on stays unused, rounded to whole seconds.
func (c *Client) SetQuarantine(ctx context.Context, d time.Duration) error {
	return c.send(ctx, http.MethodPut, "/v1/plan/quarantine", Quarantine{Seconds: seconds(d)})
}

// Map makes a part of a Site's LAN reachable at a range of its own.
func (c *Client) Map(ctx context.Context, site string, n NewMapping) (Range, error) {
	return call[Range](ctx, c, http.MethodPost, path("sites", site, "mappings"), n)
}

// Unmap ends a Mapping, named by its prefix on the LAN, its mapped prefix, or its number.
func (c *Client) Unmap(ctx context.Context, site, ref string) (Range, error) {
	return call[Range](ctx, c, http.MethodDelete, path("sites", site, "mappings")+"?"+url.Values{"ref": {ref}}.Encode(), nil)
}
