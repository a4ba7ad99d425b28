package coordinator

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/towpath/towpath/ipam"
	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
)

// planTx is a transaction that reads the plan by its index, or changes it and writes the history of what it changes.
type planTx struct {
	*trackedTx
	// at is when it happens, actor who does it.
	at    time.Time
	actor string
}

// planIn makes one of a transaction of a tracked store.
func planIn(tx store.Tx, at time.Time, actor string) (*planTx, error) {
	t, ok := tx.(*trackedTx)
	if !ok {
		return nil, fmt.Errorf("a transaction of the type %T has no index of the plan", tx)
	}
	return &planTx{trackedTx: t, at: at, actor: actor}, nil
}

// changePlan is change for what needs the plan. What was in quarantine until now is freed before.
func (c *Coordinator) changePlan(ctx context.Context, actor, action string, fn func(*planTx) (subject, detail string, err error)) error {
	err := c.change(ctx, actor, action, func(tx store.Tx) (string, string, error) {
		p, err := planIn(tx, c.stamp(), actor)
		if err != nil {
			return "", "", err
		}
		if err := p.sweep(); err != nil {
			return "", "", err
		}
		return fn(p)
	})
	return c.explain(ctx, err)
}

// viewPlan reads the plan by its index.
func (c *Coordinator) viewPlan(ctx context.Context, fn func(*planTx) error) error {
	return c.st.View(ctx, func(tx store.Tx) error {
		p, err := planIn(tx, c.stamp(), "")
		if err != nil {
			return err
		}
		return fn(p)
	})
}

// clashError is a refusal of the database where the look before had found nothing in the way.
type clashError struct {
	r     provisioning.Range
	cause error
}

func (e *clashError) Error() string { return fmt.Sprintf("create %v: %v", e.r.Prefix, e.cause) }

func (e *clashError) Unwrap() error { return e.cause }

// explain says what is in the way of what the database refused. The transaction is over, so it reads the plan again; the index, which
// had not known, is built anew.
func (c *Coordinator) explain(ctx context.Context, err error) error {
	clash, ok := errors.AsType[*clashError](err)
	if !ok || !errors.Is(err, store.ErrOverlap) && !errors.Is(err, store.ErrOutside) {
		return err
	}
	c.log.Error("the database refused a range that looked free", "range", clash.r.Prefix, "kind", clash.r.Kind, "error", clash.cause)
	c.st.index.drop()
	again := c.st.View(ctx, func(tx store.Tx) error {
		_, err := lookAround(tx, clash.r)
		return err
	})
	if again != nil {
		return again
	}
	return provisioning.Errorf(provisioning.Conflict, "%v was taken by somebody else meanwhile", clash.r.Prefix).WithHint("try again")
}

// sweep frees what was in quarantine until now.
func (tx *planTx) sweep() error {
	swept, err := tx.Ranges().Sweep(tx.at)
	if err != nil {
		return fmt.Errorf("free what was quarantined: %w", err)
	}
	for _, r := range swept {
		if err := recordRangeOf(tx, tx.at, timeActor, provisioning.RangeFreed, r, ""); err != nil {
			return err
		}
		if err := record(tx, tx.at, timeActor, "range.free", r.Prefix.String(), string(r.Kind)); err != nil {
			return err
		}
	}
	return nil
}

// info adds to r what people call its owner and where it lies.
func (tx *planTx) info(r provisioning.Range) (RangeInfo, error) {
	i := RangeInfo{Range: r}
	if r.Owner != "" {
		i.OwnerName = ownerName(tx, r.Owner)
	}
	err := tx.plan(func(p *ipam.Plan) error {
		i.Pool = poolOf(p, r.Prefix)
		return nil
	})
	return i, err
}

// poolOf is the narrowest pool around q, the zero Prefix for none.
func poolOf(p *ipam.Plan, q netip.Prefix) netip.Prefix {
	if pool, ok := p.PoolOf(q); ok {
		return pool
	}
	return netip.Prefix{}
}

// create stores r, or says what is in its way.
func (tx *planTx) create(r provisioning.Range, action provisioning.RangeAction) (RangeInfo, error) {
	if _, err := lookAround(tx, r); err != nil {
		return RangeInfo{}, err
	}
	if err := labelIsFree(tx, r.Label); err != nil {
		return RangeInfo{}, err
	}
	created, err := tx.Ranges().Create(r)
	switch {
	case errors.Is(err, store.ErrOverlap), errors.Is(err, store.ErrOutside):
		return RangeInfo{}, &clashError{r, err}
	case errors.Is(err, store.ErrExists):
		return RangeInfo{}, provisioning.Errorf(provisioning.Conflict, "the plan has %v (%s) already", r.Prefix, r.Kind).
			WithHint("it is there, nothing is to be done")
	case err != nil:
		return RangeInfo{}, fmt.Errorf("store %v: %w", r.Prefix, err)
	}
	if err := recordRange(tx, tx.at, tx.actor, action, created); err != nil {
		return RangeInfo{}, err
	}
	return tx.info(created)
}

// remove takes r out of the plan.
func (tx *planTx) remove(r provisioning.Range) error {
	if err := tx.Ranges().Remove(r.ID); err != nil {
		return fmt.Errorf("remove %v: %w", r.Prefix, err)
	}
	return recordRange(tx, tx.at, tx.actor, provisioning.RangeRemoved, r)
}

// release takes an allocation or reservation from its owner and quarantines it, unless that shall not be. The result has no owner any more
// but tells in OwnerName who it was; Until is when it is free.
func (tx *planTx) release(r provisioning.Range, now bool) (RangeInfo, error) {
	kept, err := readQuarantine(tx)
	if err != nil {
		return RangeInfo{}, err
	}
	out, err := tx.info(r)
	if err != nil {
		return RangeInfo{}, err
	}
	if now {
		kept = 0
	}
	out.Owner, out.Label, out.Until = "", "", tx.at.Add(kept)
	if kept == 0 {
		return out, tx.remove(r)
	}
	if err := tx.Ranges().Quarantine(r.ID, out.Until); err != nil {
		return RangeInfo{}, fmt.Errorf("quarantine %v: %w", r.Prefix, err)
	}
	return out, recordRangeOf(tx, tx.at, tx.actor, provisioning.RangeReleased, out.Range, out.OwnerName)
}

// lookAround returns the narrowest pool that holds r, the zero Prefix for none, or an error that says what is in the way of r. It looks
// before the database does, because after a refused write a transaction may be spent. What claim gives up is not in the way.
func lookAround(tx store.Tx, r provisioning.Range) (netip.Prefix, error) {
	near, err := tx.Ranges().Overlapping(r.Prefix)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("read the plan: %w", err)
	}
	var home netip.Prefix
	var in []provisioning.Range
	for _, o := range near {
		if o.Kind == provisioning.RangePool && o.Prefix.Bits() <= r.Prefix.Bits() {
			home = o.Prefix
		}
		if clash(r, o) && !claims(r, o) {
			in = append(in, o)
		}
	}
	if r.Kind == provisioning.RangeAllocation && !home.IsValid() {
		return home, outside(tx, r.Prefix)
	}
	if len(in) > 0 {
		return home, provisioning.Errorf(provisioning.Conflict, "%v overlaps %s", r.Prefix, describeRanges(tx, in)).
			WithHint("%s", roundabout(r))
	}
	return home, nil
}

// roundabout is what to do when something is in the way of r.
func roundabout(r provisioning.Range) string {
	switch r.Kind {
	case provisioning.RangePool:
		return "choose another pool, or a narrower one beside what is in the way"
	case provisioning.RangeForeign:
		return "renumber what is in it first, or enter a smaller part of it"
	case provisioning.RangeLAN:
		return "nothing of the plan can be a LAN: correct the range, or renumber the LAN"
	default:
		return "choose a range that \"towpath plan free\" lists"
	}
}

func outside(tx store.Tx, p netip.Prefix) error {
	ranges, err := tx.Ranges().List()
	if err != nil {
		return fmt.Errorf("read the plan: %w", err)
	}
	var pools []netip.Prefix
	for _, r := range ranges {
		if r.Kind == provisioning.RangePool && len(pools) < maxNamed {
			pools = append(pools, r.Prefix)
		}
	}
	e := provisioning.Errorf(provisioning.Invalid, "%v is in no pool of the plan", p)
	if len(pools) == 0 {
		return e.WithHint("add a pool")
	}
	return e.WithHint("choose a range in %s, or add a pool", joinPrefixes(pools))
}

// clash words the rules that the database holds by itself, see store.Ranges.
func clash(a, b provisioning.Range) bool {
	if rank(a.Kind) > rank(b.Kind) {
		a, b = b, a
	}
	switch a.Kind {
	case provisioning.RangePool:
		switch b.Kind {
		case provisioning.RangePool:
			return a.Prefix == b.Prefix
		case provisioning.RangeAllocation:
			return b.Prefix.Bits() < a.Prefix.Bits()
		default:
			return b.Kind == provisioning.RangeLAN || b.Kind == provisioning.RangeReported
		}
	case provisioning.RangeAllocation:
		return true
	case provisioning.RangeReserved:
		return b.Kind == provisioning.RangeReserved
	default:
		return a.Kind == b.Kind && a.Prefix == b.Prefix && a.Owner == b.Owner && a.Purpose == b.Purpose && a.Kind != provisioning.RangeForeign
	}
}

// rank orders the kinds so that clash has to know half of the pairs.
func rank(k provisioning.RangeKind) int {
	switch k {
	case provisioning.RangePool:
		return 0
	case provisioning.RangeAllocation:
		return 1
	case provisioning.RangeReserved:
		return 2
	case provisioning.RangeForeign:
		return 3
	case provisioning.RangeLAN:
		return 4
	default:
		return 5
	}
}

// maxNamed is how many ranges or pools a message names.
const maxNamed = 3

func describeRanges(tx store.Tx, list []provisioning.Range) string {
	var names []string
	for _, r := range list[:min(len(list), maxNamed)] {
		names = append(names, describeRange(tx, r))
	}
	if more := len(list) - len(names); more > 0 {
		names = append(names, fmt.Sprintf("%d more", more))
	}
	return strings.Join(names, " and ")
}

func describeRange(tx store.Tx, r provisioning.Range) string {
	owner := ""
	if r.Owner != "" {
		owner = ownerName(tx, r.Owner)
	}
	what := string(r.Kind)
	switch {
	case r.Quarantined():
		what = "quarantined until " + r.Until.Format(time.DateOnly)
	case r.Ending():
		what = fmt.Sprintf("of %s until %s", owner, r.Until.Format(time.DateOnly))
	case r.Kind == provisioning.RangeAllocation:
		what = "allocated to " + owner
	case r.Kind == provisioning.RangeReserved && owner != "":
		what = "reserved for " + owner
	case r.Kind == provisioning.RangeLAN:
		what = "LAN of site " + owner
	case r.Kind == provisioning.RangeReported:
		what = fmt.Sprintf("%s of the box of site %s", reportedNoun(r.Purpose), owner)
	}
	return fmt.Sprintf("%v (%s)", r.Prefix, what)
}

func reportedNoun(p provisioning.RangePurpose) string {
	switch p {
	case provisioning.PurposeWAN:
		return "WAN"
	case provisioning.PurposeContainer:
		return "containers"
	default:
		return "LAN"
	}
}

func ownerName(tx store.Tx, owner string) string {
	if s, err := tx.Sites().ByID(provisioning.SiteID(owner)); err == nil {
		return s.Name
	}
	return owner
}
