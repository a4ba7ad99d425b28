package wire

import (
	"net/netip"
	"time"

	"github.com/towpath/towpath/tunnel/wgkey"
)

// Paths of the control API. Enrolment runs over plain HTTP(S) and is sealed; the others run inside WireGuard, to Hub.Address and
// Hub.ControlPort, where the caller is known by its address and so by its key.
const (
	PathIdentity = "/v1/identity" // GET: Identity
	PathEnroll   = "/v1/enroll"   // POST: what SealRequest makes → what ResponseOpener.Open opens
	PathWatch    = "/v1/watch"    // GET, or POST with a stream of Beat, ?Have.Query(): a stream of Frame; one JSON object a line
	PathReport   = "/v1/report"   // POST: Report
	PathKey      = "/v1/key"      // POST: NextKey, for a Node that was asked to change its key
	PathStanding = "/v1/standing" // POST over plain HTTP(S): a sealed StandingRequest → a sealed StandingResponse
)

// Limits of the contract, in bytes. A reader refuses what is larger.
const (
	MaxEnrollBody = 64 << 10
	MaxFrame      = 32 << 20 // the map of a center with 20,000 clinics, see TestMapOfALargeCenterFits
	MaxReport     = 256 << 10
)

// HeartbeatEvery is how often an idle watch stream carries a heartbeat; a Node calls the stream dead after three are missing.
const HeartbeatEvery = 15 * time.Second

// Frame is one line of the watch stream.
type Frame struct {
	// NetMap is set when the Node's map changed; or Change, for a Node that takes it.
	NetMap *Signed `json:"netmap,omitempty"`
	Change *Change `json:"change,omitempty"`
	// Generation is the newest generation that the Node's current map is true for; sent with every frame.
	Generation uint64 `json:"generation"`
	// Hash is what that map says, for a Node that takes a Change; zero when it is not known.
	Hash ContentHash `json:"hash,omitzero"`
	// Now is the coordinator's clock, for Nodes whose NTP is blocked.
	Now time.Time `json:"now"`
	// Mail says that something was left for the Node at PathPairMail since the last frame.
	Mail bool `json:"mail,omitempty"`
}

// EnrollRequest is what a box seals to the coordinator.
type EnrollRequest struct {
	Format    int             `json:"format"`
	TokenID   string          `json:"token_id"`
	Secret    []byte          `json:"secret"`
	PublicKey wgkey.PublicKey `json:"public_key"`
	// Kind is what the box is run as; empty for one that becomes whatever the token is for. A token of another kind is refused unused.
	Kind NodeKind `json:"kind,omitempty"`
	// Now is the box's clock.
	Now   time.Time `json:"now"`
	Facts Facts     `json:"facts"`
}

// Facts are what a box tells of itself. They inform and may contradict the plan; they never decide a route.
type Facts struct {
	Hostname string `json:"hostname,omitempty"`
	Serial   string `json:"serial,omitempty"`
	Model    string `json:"model,omitempty"`
	Version  string `json:"version,omitempty"`
	// LANs are the prefixes of the box's own interfaces towards the Site.
	LANs []netip.Prefix `json:"lans,omitempty"`
	// WANs are those of its interfaces towards the internet, where it has separate ones, and of addresses that only a provider gives.
	WANs []netip.Prefix `json:"wans,omitempty"`
	// Containers are those of bridges that container and virtualization software has made on the box.
	Containers []netip.Prefix `json:"containers,omitempty"`
	// LANTLS is how the LAN is protected; nil for a box that does not tell.
	LANTLS *LANReport `json:"lan_tls,omitempty"`
	// Archives are what the box found out of the archives behind its Site's DICOM Services.
	Archives []ArchiveFacts `json:"archives,omitempty"`
	// Devices are those that called DICOM Services from the LAN last.
	Devices []DeviceFacts `json:"devices,omitempty"`
	// PairKeys says that the box agrees on preshared keys with others, see PathPairMail.
	PairKeys bool `json:"pair_keys,omitempty"`
}

// ArchiveFacts are what an archive accepts, in numbers.
type ArchiveFacts struct {
	Service string `json:"service"`
	// Probed is when it was asked; zero for never. Software is what it calls its software.
	Probed   time.Time `json:"probed,omitzero"`
	Software string    `json:"software,omitempty"`
	// Classes counts the storage SOP classes that it takes, Pairs those of class and transfer syntax.
	Classes int `json:"classes"`
	Pairs   int `json:"pairs"`
	// Problem is why it could not be asked.
	Problem string `json:"problem,omitempty"`
}

// EnrollResponse is what the coordinator seals back. Exactly one of Error, NetMap and Wait is set.
type EnrollResponse struct {
	Error  *Refusal  `json:"error,omitempty"`
	NetMap *Signed   `json:"netmap,omitempty"`
	Wait   *Wait     `json:"wait,omitempty"`
	Now    time.Time `json:"now"`
}

// Wait says that the token was good and an operator has to agree: the box asks again, with the same token and key.
type Wait struct {
	// After is when to ask again, in seconds, 1 to 300.
	After int `json:"after"`
	// Message is for the person at the box.
	Message string `json:"message"`
}

// NextKey is the key that a Node will change to.
type NextKey struct {
	Format    int             `json:"format"`
	PublicKey wgkey.PublicKey `json:"public_key"`
}

// StandingRequest is what a Node seals to the coordinator that does not hear from the hub: am I still in the network, and what time is it?
type StandingRequest struct {
	Format    int             `json:"format"`
	Node      string          `json:"node"`
	PublicKey wgkey.PublicKey `json:"public_key"`
}

// Standing is what the coordinator thinks of a Node.
type Standing string

// The standings. Unknown is also the answer for a Node that was never there.
const (
	StandingActive      Standing = "active"
	StandingWaiting     Standing = "waiting"
	StandingQuarantined Standing = "quarantined"
	// StandingReplaced means that another box has taken the place: the Node is there with another key.
	StandingReplaced Standing = "replaced"
	StandingUnknown  Standing = "unknown"
)

// StandingResponse is what the coordinator seals back.
type StandingResponse struct {
	Standing Standing `json:"standing"`
	// Message says why, for a person; empty for an active Node.
	Message string    `json:"message,omitempty"`
	Now     time.Time `json:"now"`
}

// Refusal is an error with words for a person.
type Refusal struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	// Hint says what to do.
	Hint string `json:"hint,omitempty"`
}

// Error makes a Refusal an error.
func (r *Refusal) Error() string { return r.Message }

// Report flows up from a Node. It holds no patient data.
type Report struct {
	Format int `json:"format"`
	// Applied is the generation the Node has made true; ApplyError is why a newer one is not.
	Applied    uint64      `json:"applied"`
	ApplyError string      `json:"apply_error,omitempty"`
	Conditions []Condition `json:"conditions,omitempty"`
	Facts      Facts       `json:"facts"`
	Queues     []Queue     `json:"queues,omitempty"`
}

// Condition is a named health fact.
type Condition struct {
	Code     string    `json:"code"`
	Severity string    `json:"severity"` // "info", "warning", "error"
	Message  string    `json:"message"`
	Since    time.Time `json:"since"`
}

// Queue is the fill of one durable queue.
type Queue struct {
	Name   string `json:"name"`
	Queued int    `json:"queued"`
	Parked int    `json:"parked"`
	// Carried is how many the far gateway has, and whose receiver has not been heard of.
	Carried   int    `json:"carried,omitempty"`
	Bytes     int64  `json:"bytes"`
	Delivered uint64 `json:"delivered"`
}

// NodeKeepalive is the persistent keepalive of a Node towards the hub, and towards peers it has to call: short enough for the UDP timeout
// of 30 s that many carriers' address translators have.
const NodeKeepalive = 25 * time.Second
