package coordinator

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/towpath/towpath/ipam"
	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
)

// maxNote is the longest note of a range, in bytes.
const maxNote = 1000

// textsOf checks and cleans what a person calls a range.
func textsOf(label, note string) (string, string, error) {
	label = strings.TrimSpace(label)
	if label != "" {
		if err := provisioning.CheckName("range", label); err != nil {
			return "", "", err
		}
		if strings.Trim(label, "0123456789") == "" {
			return "", "", provisioning.Errorf(provisioning.Invalid, "the label %q is a number, and ranges have numbers", label).
				WithHint("put a letter in it")
		}
	}
	if len(note) > maxNote {
		return "", "", provisioning.Errorf(provisioning.Invalid, "the note has %d bytes, more than %d", len(note), maxNote).WithHint("shorten it")
	}
	return label, clean(note, maxNote), nil
}

func labelIsFree(tx store.Tx, label string) error {
	if label == "" {
		return nil
	}
	r, err := tx.Ranges().ByLabel(label)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for the label: %w", err)
	}
	return provisioning.Errorf(provisioning.Conflict, "the label %s is that of %s", label, describeRange(tx, r)).WithHint("choose another label")
}

func checkPrefix(p netip.Prefix) error {
	if _, err := ipam.ParsePrefix(p.String()); err != nil {
		return provisioning.Errorf(provisioning.Invalid, "%s", err).WithHint("write a range like 10.20.0.0/16")
	}
	return nil
}

// checkPlace refuses what asks for a certain range and for any at once, or for neither.
func checkPlace(p netip.Prefix, s Size, pool string) error {
	switch {
	case p != (netip.Prefix{}) && (s != (Size{}) || pool != ""):
		return provisioning.Errorf(provisioning.Invalid, "a range was given, and a size or pool besides").
			WithHint("give the range, or let the coordinator choose one of a size")
	case p != (netip.Prefix{}):
		return checkPrefix(p)
	case s == (Size{}):
		return provisioning.Errorf(provisioning.Invalid, "neither a range nor a size was given").
			WithHint("say how many hosts it shall have room for")
	}
	return s.check()
}

// check refuses sizes that nothing has.
func (s Size) check() error {
	switch {
	case s.Hosts != 0 && s.Bits != 0:
		return provisioning.Errorf(provisioning.Invalid, "a number of hosts and a prefix length were given").WithHint("give one of the two")
	case s.Hosts < 0 || s.Hosts > maxHosts:
		return provisioning.Errorf(provisioning.Invalid, "a range has room for 1 to %d hosts, not %d", maxHosts, s.Hosts).
			WithHint("every box needs one address; 14 are enough for most sites; a prefix length asks for larger ones")
	case s.Bits < 0 || s.Bits > ipam.IPv6.Width():
		return provisioning.Errorf(provisioning.Invalid, "there is no prefix length %d", s.Bits).
			WithHint("choose up to 32 for IPv4 or 128 for IPv6, such as 28 for 14 hosts")
	}
	return nil
}

// in is the prefix length in a family.
func (s Size) in(f ipam.Family) (int, error) {
	if s.Bits != 0 {
		return s.Bits, nil
	}
	return ipam.PrefixFor(s.Hosts, f)
}

func (s Size) String() string {
	if s.Bits != 0 {
		return fmt.Sprintf("a /%d", s.Bits)
	}
	return fmt.Sprintf("%d hosts", s.Hosts)
}

// poolNamed finds a pool by prefix, label or number.
func poolNamed(tx store.Tx, ref string) (provisioning.Range, error) {
	r, err := rangeNamed(tx, ref, func(r provisioning.Range) bool { return r.Kind == provisioning.RangePool })
	if errors.Is(err, store.ErrNotFound) {
		return r, provisioning.Errorf(provisioning.NotFound, "there is no pool %q", clean(ref, maxShort)).
			WithHint("\"towpath plan tree\" lists the pools; name one by prefix, label or number")
	}
	return r, err
}

// takenNamed finds an allocation or reservation by number, prefix or label.
func takenNamed(tx store.Tx, ref string) (provisioning.Range, error) {
	r, err := rangeNamed(tx, ref, isTaken)
	if errors.Is(err, store.ErrNotFound) {
		return r, provisioning.Errorf(provisioning.NotFound, "there is no allocation or reservation %q", clean(ref, maxShort)).
			WithHint("\"towpath plan show\" lists them; name one by number, prefix or label")
	}
	return r, err
}

func isTaken(r provisioning.Range) bool {
	return r.Kind == provisioning.RangeAllocation || r.Kind == provisioning.RangeReserved
}

// rangeNamed finds a range of some kinds by number, prefix or label. Of these there is at most one with a prefix. The error for none is
// store.ErrNotFound.
func rangeNamed(tx store.Tx, ref string, is func(provisioning.Range) bool) (provisioning.Range, error) {
	ref = strings.TrimSpace(ref)
	var r provisioning.Range
	var err error
	switch id, notNumber := strconv.ParseInt(ref, 10, 64); {
	case notNumber == nil:
		r, err = tx.Ranges().ByID(id)
	case strings.Contains(ref, "/"):
		p, bad := ipam.ParsePrefix(ref)
		if bad != nil {
			return r, provisioning.Errorf(provisioning.Invalid, "%s", bad).WithHint("write a range like 10.20.0.0/16")
		}
		near, err := tx.Ranges().Overlapping(p)
		if err != nil {
			return r, fmt.Errorf("read the plan: %w", err)
		}
		i := slices.IndexFunc(near, func(o provisioning.Range) bool { return o.Prefix == p && is(o) })
		if i < 0 {
			return r, store.ErrNotFound
		}
		return near[i], nil
	case len(ref) <= maxShort:
		r, err = tx.Ranges().ByLabel(ref)
	default:
		return r, store.ErrNotFound
	}
	if err == nil && !is(r) {
		return r, store.ErrNotFound
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return r, fmt.Errorf("look for the range: %w", err)
	}
	return r, err
}

// poolsInOrder are the pools that an allocation is taken from where none is named: those around others before those in them, so that what
// was given to a region stays the region's for as long as there is room elsewhere; among equals in the order of the plan.
func poolsInOrder(p *ipam.Plan) []netip.Prefix {
	nodes := slices.SortedStableFunc(p.Pools(), func(a, b ipam.PoolNode) int { return cmp.Compare(a.Depth, b.Depth) })
	out := make([]netip.Prefix, 0, len(nodes))
	for _, n := range nodes {
		out = append(out, n.Prefix)
	}
	return out
}

// choose finds free room in a pool, or in any if none is named. It takes nothing.
func (tx *planTx) choose(pool string, s Size, families ...ipam.Family) (netip.Prefix, error) {
	var in []netip.Prefix
	if pool != "" {
		r, err := poolNamed(tx, pool)
		if err != nil {
			return netip.Prefix{}, err
		}
		in = append(in, r.Prefix)
	}
	var out netip.Prefix
	err := tx.plan(func(p *ipam.Plan) error {
		if pool == "" {
			in = poolsInOrder(p)
		}
		if len(families) > 0 {
			in = slices.DeleteFunc(in, func(q netip.Prefix) bool { return !slices.Contains(families, ipam.FamilyOf(q)) })
		}
		var err error
		out, err = findRoom(p, in, s)
		return err
	})
	return out, err
}

func findRoom(p *ipam.Plan, in []netip.Prefix, s Size) (netip.Prefix, error) {
	var full error
	for _, pool := range in {
		bits, err := s.in(ipam.FamilyOf(pool))
		if err != nil {
			full = cmp.Or(full, err)
			continue
		}
		if width := ipam.FamilyOf(pool).Width(); bits < pool.Bits() || bits > width {
			full = cmp.Or(full, fmt.Errorf("the pool %v holds ranges from /%d to /%d", pool, pool.Bits(), width))
			continue
		}
		q, err := p.Find(bits, pool)
		if err == nil {
			return q, nil
		}
		if _, ok := errors.AsType[*ipam.FullError](err); !ok {
			return q, fmt.Errorf("allocate from the pool %v: %w", pool, err)
		}
		full = cmp.Or(full, err)
	}
	if full == nil {
		return netip.Prefix{}, provisioning.Errorf(provisioning.Conflict, "the plan has no pool").WithHint("add a pool")
	}
	return netip.Prefix{}, provisioning.Errorf(provisioning.Conflict, "there is no room for %v: %s", s, full).
		WithHint("add a pool, or ask for less; \"towpath plan free\" shows what is left")
}
