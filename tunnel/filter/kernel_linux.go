package filter

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// netlinkLimit bounds one exchange with the kernel. Where netfilter's netlink is there but nf_tables is not, no answer ever comes.
const netlinkLimit = 5 * time.Second

// socketBuffer holds a whole transaction in bytes; the kernel refuses a message that is larger.
const socketBuffer = 16 << 20

// Kernel is the Firewall of the network namespace that the calling thread is in. It needs CAP_NET_ADMIN. The zero value is ready.
type Kernel struct {
	mu      sync.Mutex
	applied *program
	// earlier are the counts of tables that were replaced.
	earlier map[string]Drop
}

var _ Firewall = (*Kernel)(nil)

// Apply implements Firewall.
func (k *Kernel) Apply(ctx context.Context, r Ruleset) error {
	if err := r.Validate(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	p := compile(r)
	now, err := k.status(&p)
	if err != nil {
		return err
	}
	if now.Intact {
		k.applied = &p
		return nil
	}
	c, err := connect()
	if err != nil {
		return err
	}
	if err := load(c, p); err != nil {
		return err
	}
	if err := c.Flush(); err != nil {
		return explain("load the table", err)
	}
	if k.applied != nil {
		k.keep(now.Dropped)
	}
	k.applied = &p
	return nil
}

// keep adds to the counts what a table that is gone has counted.
func (k *Kernel) keep(drops []Drop) {
	if k.earlier == nil {
		k.earlier = map[string]Drop{}
	}
	for _, d := range drops {
		e := k.earlier[d.What]
		k.earlier[d.What] = Drop{What: d.What, Packets: e.Packets + d.Packets, Bytes: e.Bytes + d.Bytes}
	}
}

// Status implements Firewall.
func (k *Kernel) Status(ctx context.Context) (Status, error) {
	if err := ctx.Err(); err != nil {
		return Status{}, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	s, err := k.status(k.applied)
	for i, d := range s.Dropped {
		e := k.earlier[d.What]
		s.Dropped[i].Packets += e.Packets
		s.Dropped[i].Bytes += e.Bytes
	}
	return s, err
}

// status compares what is there with want, which may be nil. Counts of equal words are one.
func (k *Kernel) status(want *program) (s Status, err error) {
	c, err := connect()
	if err != nil {
		return s, err
	}
	chains, err := c.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return s, explain("list the tables", err)
	}
	chains = slices.DeleteFunc(chains, func(c *nftables.Chain) bool { return c.Table.Name != Table })
	s.Loaded = len(chains) > 0
	if !s.Loaded {
		return s, nil
	}
	s.Intact = want != nil && len(chains) == len(want.chains)
	for _, ch := range chains {
		rules, err := c.GetRules(&nftables.Table{Name: Table, Family: nftables.TableFamilyINet}, ch)
		if err != nil {
			return s, explain("list the rules", err)
		}
		s.count(rules)
		s.Intact = s.Intact && want.has(ch, rules)
	}
	if s.Intact {
		s.Intact, err = k.sameSets(c, *want)
	}
	return s, err
}

// count adds up what rules have dropped.
func (s *Status) count(rules []*nftables.Rule) {
	for _, r := range rules {
		what := comment(r)
		for _, e := range r.Exprs {
			n, ok := e.(*expr.Counter)
			if !ok {
				continue
			}
			i := slices.IndexFunc(s.Dropped, func(d Drop) bool { return d.What == what })
			if i < 0 {
				i = len(s.Dropped)
				s.Dropped = append(s.Dropped, Drop{What: what})
			}
			s.Dropped[i].Packets += n.Packets
			s.Dropped[i].Bytes += n.Bytes
		}
	}
}

// has reports whether a chain is one of the program's, rule by rule as far as their words go; the first of all has the id.
func (p program) has(c *nftables.Chain, rules []*nftables.Rule) bool {
	i := slices.IndexFunc(p.chains, func(x chain) bool { return x.name == c.Name })
	if i < 0 || len(rules) != len(p.chains[i].rules) || (c.Hooknum != nil) != (p.chains[i].hook != noHook) {
		return false
	}
	for j, r := range rules {
		if comment(r) != p.chains[i].rules[j].comment {
			return false
		}
	}
	return true
}

// sameSets reports whether nobody has taken anything out of the sets or put anything in.
func (k *Kernel) sameSets(c *nftables.Conn, want program) (bool, error) {
	table := &nftables.Table{Name: Table, Family: nftables.TableFamilyINet}
	for _, s := range want.sets {
		there, err := c.GetSetElements(&nftables.Set{Table: table, Name: s.name, KeyType: s.keyType()})
		if err != nil {
			return false, explain("list a set", err)
		}
		if len(there) != len(s.keys()) {
			return false, nil
		}
	}
	return true, nil
}

func comment(r *nftables.Rule) string {
	s, _ := userdata.GetString(r.UserData, userdata.TypeComment)
	return s
}

// Remove implements Firewall.
func (k *Kernel) Remove(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	c, err := connect()
	if err != nil {
		return err
	}
	t := c.AddTable(&nftables.Table{Name: Table, Family: nftables.TableFamilyINet}) // so that it is there to be deleted
	c.DelTable(t)
	k.applied = nil
	return explain("remove the table", c.Flush())
}

// Close implements Firewall. There is nothing to release: every exchange has a socket of its own.
func (k *Kernel) Close() error { return nil }

func connect() (*nftables.Conn, error) {
	c, err := nftables.New(nftables.WithSockOptions(func(c *netlink.Conn) error {
		// More than the default is for root only, who else may not change anything anyway.
		_ = c.SetWriteBuffer(socketBuffer)
		_ = c.SetReadBuffer(socketBuffer)
		return c.SetDeadline(time.Now().Add(netlinkLimit))
	}))
	return c, explain("open netlink", err)
}

// explain tells what this machine or process cannot do from what went wrong.
func explain(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s: %w: this needs the capability NET_ADMIN: %w", what, ErrUnavailable, err)
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EAFNOSUPPORT), errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("%s: %w: this kernel has no nf_tables (load the module nf_tables): %w", what, ErrUnavailable, err)
	}
	return fmt.Errorf("firewall: %s: %w", what, err)
}
