package prove

import (
	"cmp"
	"fmt"
	"time"
)

// Format is the name of the certificate's form.
const Format = "towpath-proof/1"

// MaxCounterExamples is how many a RefutedError lists.
const MaxCounterExamples = 1000

// Stamp is what a Certificate says about its making.
type Stamp struct {
	// Tool is the name and version of the program.
	Tool       string
	At         time.Time
	Generation uint64
}

// Certificate says what was proven of which input.
type Certificate struct {
	Format     string    `json:"format"`
	Network    string    `json:"network"`
	Generation uint64    `json:"generation"`
	Generated  time.Time `json:"generated"`
	Tool       string    `json:"tool"`
	// Digests identify the input; who has the same input gets the same ones.
	Digests Digests `json:"digests"`
	Counts  Counts  `json:"counts"`
	// Proven are the statements that hold.
	Proven []Statement `json:"proven"`
	// Assumed is what no map can show.
	Assumed []string `json:"assumed"`
}

// Digests are hexadecimal. Each is of a bag of objects: an object's leaf is the SHA-256 of its kind, a zero byte and its JSON (of a map
// without generation, issue and expiry; of a range without its line); the 256 groups of leaves with the same first byte are sorted and
// hashed one by one; the digest is the SHA-256 of those 256 hashes.
type Digests struct {
	Plan  string `json:"plan"`
	Facts string `json:"facts"`
	Maps  string `json:"maps"`
}

// Counts say how much was looked at.
type Counts struct {
	Pools       int `json:"pools"`
	Ranges      int `json:"ranges"`
	Allocations int `json:"allocations"`
	Sites       int `json:"sites"`
	Clinics     int `json:"clinics"`
	// ClinicPairs is how many pairs of clinics cannot meet.
	ClinicPairs int `json:"clinic_pairs"`
	Nodes       int `json:"nodes"`
	Services    int `json:"services"`
	Grants      int `json:"grants"`
	// PendingGrants are those of which one side has no Node yet.
	PendingGrants int `json:"pending_grants"`
	Maps          int `json:"maps"`
	Peers         int `json:"peers"`
	AllowedIPs    int `json:"allowed_ips"`
	Offers        int `json:"offers"`
	Uses          int `json:"uses"`
}

// Statement is one thing that is proven or refuted.
type Statement struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// The names of the statements.
const (
	Disjoint  = "ranges-disjoint"
	Identity  = "identities-unique"
	Belonging = "addresses-owned"
	Allowed   = "allowed-ips-exact"
	Deny      = "default-deny"
	Reachable = "grants-reachable"
	Isolated  = "clinics-isolated"
	NoForward = "no-forwarding"
)

func statements() []Statement {
	return []Statement{
		{Disjoint, "All ranges are disjoint where they must be, and every allocation lies in a pool."},
		{Identity, "Every node has one map, one key and addresses that no other has, and every map names the hub and the pools as they are."},
		{Belonging, "Every address of a node or service lies in an allocation of its own site, and what stands for a LAN is mapped to that of " +
			"its own site, at one node."},
		{Allowed, "Every allowed IP belongs to exactly one peer on each node and on the hub, and to the node with that peer's key."},
		{Deny, "No map holds a peer, an offer, a source or a use without a grant, or otherwise than the service is, or two at one place."},
		{Reachable, "Every grant between enrolled sites works: the user is sent to a place that is allowed to exactly one peer, which offers " +
			"the service there, admits the user, and each holds the other's key and addresses."},
		{Isolated, "No two clinics hold each other's keys, addresses, offers or uses."},
		{NoForward, "No offer leads to an overlay address or back into a use, and the allowed IPs of a clinic are that clinic's own alone, " +
			"so no map carries a packet of one clinic to another."},
	}
}

// CounterExample is one thing that refutes a Statement. Fields that do not apply are empty.
type CounterExample struct {
	// Statement is the name of what it refutes.
	Statement string `json:"statement"`
	Line      int    `json:"line,omitempty"`
	Site      string `json:"site,omitempty"`
	Node      string `json:"node,omitempty"`
	Service   string `json:"service,omitempty"`
	Prefix    string `json:"prefix,omitempty"`
	// Missing means that all it comes to is that something cannot be reached yet.
	Missing bool   `json:"missing,omitempty"`
	Text    string `json:"text"`
}

// Safety reports whether, for what c says, two ranges may overlap or a packet may go where it must not. Otherwise something does not work,
// and nothing worse.
func (c CounterExample) Safety() bool { return c.Statement != Reachable && !c.Missing }

// String is the text with its line.
func (c CounterExample) String() string {
	if c.Line > 0 {
		return fmt.Sprintf("line %d: %s", c.Line, c.Text)
	}
	return c.Text
}

func (c CounterExample) compare(o CounterExample) int {
	return cmp.Or(cmp.Compare(c.Line, o.Line), cmp.Compare(c.Site, o.Site), cmp.Compare(c.Node, o.Node), cmp.Compare(c.Service, o.Service),
		cmp.Compare(c.Statement, o.Statement), cmp.Compare(c.Prefix, o.Prefix), cmp.Compare(c.Text, o.Text))
}

// RefutedError is the error of a proof that failed.
type RefutedError struct {
	// CounterExamples are in a fixed order, MaxCounterExamples at most.
	CounterExamples []CounterExample
	// Total is how many there are.
	Total int
}

func (e *RefutedError) Error() string {
	first := "nothing is known"
	if len(e.CounterExamples) > 0 {
		first = e.CounterExamples[0].String()
	}
	if e.Total > 1 {
		return fmt.Sprintf("the network is not proven: %s (and %d more)", first, e.Total-1)
	}
	return "the network is not proven: " + first
}
