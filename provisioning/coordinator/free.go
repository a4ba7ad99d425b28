package coordinator

import (
	"context"
	"net/netip"

	"github.com/towpath/towpath/ipam"
)

// Free says what is free. Of a pool, that is what it has given neither to anybody nor to a narrower pool.
func (c *Coordinator) Free(ctx context.Context, q FreeQuery) ([]FreeSpace, error) {
	if err := q.Size.check(); err != nil {
		return nil, err
	}
	var out []FreeSpace
	err := c.viewPlan(ctx, func(tx *planTx) error {
		out = []FreeSpace{}
		var only netip.Prefix
		if q.Pool != "" {
			r, err := poolNamed(tx, q.Pool)
			if err != nil {
				return err
			}
			only = r.Prefix
		}
		return tx.plan(func(p *ipam.Plan) error {
			for n := range p.Pools() {
				if only.IsValid() && n.Prefix != only {
					continue
				}
				f, err := freeSpace(p, n.Prefix, q.Size)
				if err != nil {
					return err
				}
				out = append(out, f)
			}
			return nil
		})
	})
	return out, err
}

func freeSpace(p *ipam.Plan, pool netip.Prefix, s Size) (FreeSpace, error) {
	f := FreeSpace{Pool: pool}
	space, ok := p.Space(pool)
	if !ok {
		return f, nil
	}
	for b := range space.Free() {
		if f.Total++; f.Total <= MaxFreeBlocks {
			f.Blocks = append(f.Blocks, b)
		}
	}
	if s == (Size{}) {
		return f, nil
	}
	bits, err := s.in(ipam.FamilyOf(pool))
	if err != nil || bits > ipam.FamilyOf(pool).Width() {
		return f, nil //nolint:nilerr // nothing of that size is of this family
	}
	f.Bits = bits
	if f.Fits = space.Fits(bits); f.Fits == 0 {
		return f, nil
	}
	f.Next, err = space.Find(bits)
	return f, err
}
