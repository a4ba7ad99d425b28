package adminapi

import (
	"encoding/json"
	"net/netip"
	"time"

	"github.com/towpath/towpath/provisioning/prove"
)

// Network is the network in a few words.
type Network struct {
	ID          string         `json:"id" doc:"short name of the key that signs all maps"`
	Fingerprint string         `json:"fingerprint" doc:"what tokens pin"`
	Generation  uint64         `json:"generation" doc:"number of the newest state of the network's intent"`
	Hub         Hub            `json:"hub"`
	URLs        []string       `json:"urls" nullable:"false" doc:"where boxes enroll"`
	PairKeys    string         `json:"pair_keys" enum:"preferred,required,off" doc:"whether boxes agree on post-quantum preshared keys"`
	Pools       []netip.Prefix `json:"pools" nullable:"false"`
	Sites       int            `json:"sites"`
	Nodes       int            `json:"nodes"`
	Online      int            `json:"online" doc:"nodes that are watching now"`
}

// Hub is the coordinator's own WireGuard endpoint.
type Hub struct {
	PublicKey   string     `json:"public_key"`
	Endpoints   []string   `json:"endpoints" nullable:"false"`
	Address     netip.Addr `json:"address"`
	ControlPort uint16     `json:"control_port"`
}

// Reach is how the coordinator is found from outside.
type Reach struct {
	HubEndpoints []string `json:"hub_endpoints" nullable:"false" doc:"host:port of the hub's UDP port" example:"[\"vpn.example.org:51820\"]"`
	URLs         []string `json:"urls" nullable:"false" doc:"where boxes enroll" example:"[\"http://vpn.example.org\"]"`
}

// PairKeys is the policy for post-quantum preshared keys.
type PairKeys struct {
	Policy string `json:"policy" enum:"preferred,required,off" doc:"required keeps boxes apart that have no key"`
}

// Export is the whole network at one generation, for a proof: the plan, the facts, and the map of every node. It holds no secret.
type Export struct {
	Generation uint64      `json:"generation"`
	Input      prove.Input `json:"input"`
}

// exported is how the description shows an Export: the input has a form of its own, which package prove describes.
type exported struct {
	Generation uint64          `json:"generation"`
	Input      json.RawMessage `json:"input" doc:"the input of a proof, see towpath plan prove"`
}

// Site is a place with its own network.
type Site struct {
	ID       string         `json:"id"`
	Name     string         `json:"name"`
	Kind     string         `json:"kind" enum:"clinic,center"`
	Title    string         `json:"title,omitempty"`
	Endpoint string         `json:"endpoint,omitempty" doc:"host:port at which it is reached from outside"`
	SpoolKey string         `json:"spool_key,omitempty" doc:"where the key of its encrypted queues is kept; absent when it is left to the box"`
	Prefixes []netip.Prefix `json:"prefixes" nullable:"false"`
	Nodes    int            `json:"nodes"`
	Kinds    map[string]int `json:"kinds" doc:"how many nodes of each kind"`
	Created  time.Time      `json:"created"`
}

// NewSite describes a Site to be made.
type NewSite struct {
	Name     string `json:"name" example:"praxis-nord"`
	Kind     string `json:"kind" doc:"clinic or center" example:"clinic"`
	Title    string `json:"title,omitempty"`
	Endpoint string `json:"endpoint,omitempty" example:"vpn.example.org:51820"`
	Prefix   string `json:"prefix,omitempty" doc:"its range; chosen if absent" example:"10.201.1.0/28"`
	Hosts    int    `json:"hosts,omitempty" doc:"room to choose a range for; 14 if absent"`
	Pool     string `json:"pool,omitempty" doc:"prefix, label or number of the pool to choose it from"`
	LAN      string `json:"lan,omitempty" doc:"its real local network, if it is known" example:"192.168.178.0/24"`
}

// SiteEndpoint is where a Site is reached from outside.
type SiteEndpoint struct {
	Endpoint string `json:"endpoint" doc:"host:port; empty for a site that only calls out"`
}

// SiteSpoolKey is where the key of a Site's encrypted queues is kept.
type SiteSpoolKey struct {
	SpoolKey string `json:"spool_key" doc:"file, tpm or coordinator; empty leaves it to the box"`
}

// TokenUse is one enrolment with a Token.
type TokenUse struct {
	Node string    `json:"node" doc:"id of the node"`
	At   time.Time `json:"at"`
}

// Token is a right to enroll boxes, without its secret.
type Token struct {
	ID       string     `json:"id"`
	Site     string     `json:"site"`
	Kind     string     `json:"kind"`
	State    string     `json:"state" enum:"open,used,expired,revoked"`
	Address  netip.Addr `json:"address,omitzero" doc:"what the box will have on the overlay; absent if chosen when it is used"`
	Created  time.Time  `json:"created"`
	Expires  time.Time  `json:"expires"`
	Limit    int        `json:"limit" doc:"how many boxes it enrolls"`
	Uses     []TokenUse `json:"uses" nullable:"false" doc:"oldest first"`
	Approval bool       `json:"approval,omitempty" doc:"an operator has to approve each box"`
	Replaces string     `json:"replaces,omitempty" doc:"id of the node whose place the box takes"`
	Revoked  time.Time  `json:"revoked,omitzero"`
}

// NewToken describes a Token to be made.
type NewToken struct {
	Site       string `json:"site"`
	Kind       string `json:"kind,omitempty" doc:"gateway (if absent), relay or workstation"`
	TTLSeconds int64  `json:"ttl_seconds,omitempty" doc:"how long it can be used; 72 hours if absent"`
	Limit      int    `json:"limit,omitempty" doc:"how many boxes it enrolls, 1 to 1000; 1 if absent"`
	Approval   bool   `json:"approval,omitempty" doc:"let each box wait until an operator approves it"`
	// Address is chosen when the token is used if it is the zero value.
	Address netip.Addr `json:"address,omitzero" doc:"what the box will have on the overlay; chosen if absent"`
}

// CreatedToken is a Token with the only copy of its text.
type CreatedToken struct {
	Token
	Text string `json:"text" doc:"what is typed into the box; shown this once"`
}

// Service is something clinical offered at a Site.
type Service struct {
	ID       string         `json:"id"`
	Name     string         `json:"name"`
	Site     string         `json:"site"`
	Protocol string         `json:"protocol" enum:"dicom,hl7"`
	AETitle  string         `json:"ae_title,omitempty"`
	Receiver string         `json:"receiver,omitempty"`
	HL7      *HL7Options    `json:"hl7,omitempty" doc:"options of an HL7 service; absent when it has none"`
	DICOM    *DICOMOptions  `json:"dicom,omitempty" doc:"options of a DICOM service; absent when it has none"`
	Archive  *Archive       `json:"archive,omitempty" doc:"what the archive behind a DICOM service accepts; absent when nothing was reported"`
	Queue    *QueueOptions  `json:"queue,omitempty" doc:"bounds of its queues; absent when it has none"`
	Mode     string         `json:"mode" enum:"queued,pass-through"`
	Target   string         `json:"target"`
	Port     uint16         `json:"port" doc:"TCP port on the overlay"`
	Address  netip.Addr     `json:"address,omitzero" doc:"fixed overlay address of its own; absent when it is at the address of the site's box"`
	At       netip.AddrPort `json:"at,omitzero" doc:"where it is on the overlay; absent until its site has a box"`
	Users    []string       `json:"users" nullable:"false" doc:"names of the sites that may use it"`
	Created  time.Time      `json:"created"`
}

// NewService describes a Service to be made.
type NewService struct {
	Site         string        `json:"site"`
	Name         string        `json:"name" example:"lab-pacs"`
	Protocol     string        `json:"protocol" doc:"dicom or hl7" example:"dicom"`
	AETitle      string        `json:"ae_title,omitempty" example:"LABPACS"`
	Receiver     string        `json:"receiver,omitempty" example:"HIS^WARD"`
	HL7          *HL7Options   `json:"hl7,omitempty" doc:"options of an HL7 service"`
	DICOM        *DICOMOptions `json:"dicom,omitempty" doc:"options of a DICOM service"`
	Queue        *QueueOptions `json:"queue,omitempty" doc:"bounds of the queue on each gateway that sends to a queued service"`
	Target       string        `json:"target" doc:"host:port on the site's LAN, or folder:NAME for files on its gateway (HL7)" example:"192.168.1.10:104"`
	Mode         string        `json:"mode,omitempty" doc:"queued (if absent) or pass-through"`
	FixedAddress bool          `json:"fixed_address,omitempty" doc:"give it an overlay address of its own, which stays when boxes change"`
	Address      netip.Addr    `json:"address,omitzero" doc:"that address; chosen if absent"`
}

// Grant permits a Site to use a Service.
type Grant struct {
	Service string    `json:"service"`
	Owner   string    `json:"owner" doc:"the site that offers the service"`
	Site    string    `json:"site" doc:"the site that may use it"`
	LANPort uint16    `json:"lan_port" doc:"where the using site's gateway listens"`
	Poll    *Poll     `json:"poll,omitempty" doc:"the gateway fetches new studies from an archive of the site; absent if it does not"`
	Created time.Time `json:"created"`
}

// NewGrant says how a Service is reached.
type NewGrant struct {
	LANPort uint16 `json:"lan_port,omitempty" doc:"11112 for dicom and 2575 for hl7 if absent"`
}

// Condition is a named health fact.
type Condition struct {
	Code     string    `json:"code"`
	Severity string    `json:"severity" enum:"info,warning,error"`
	Message  string    `json:"message"`
	Since    time.Time `json:"since"`
}

// Queue is the fill of one durable queue.
type Queue struct {
	Name      string `json:"name"`
	Queued    int    `json:"queued"`
	Parked    int    `json:"parked"`
	Carried   int    `json:"carried,omitempty"`
	Bytes     int64  `json:"bytes"`
	Delivered uint64 `json:"delivered"`
}

// Event is one entry of the audit trail.
type Event struct {
	Seq     uint64    `json:"seq"`
	At      time.Time `json:"at"`
	Actor   string    `json:"actor"`
	Action  string    `json:"action"`
	Subject string    `json:"subject"`
	Detail  string    `json:"detail,omitempty"`
	Hash    string    `json:"hash" doc:"SHA-256 over this entry and the hash of the one before, in hex"`
}

// Verification is the result of walking the audit trail.
type Verification struct {
	Broken uint64 `json:"broken" doc:"number of the first entry that does not fit the one before; 0 if all fit"`
}
