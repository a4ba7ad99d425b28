package wire

// PathPairMail is where Nodes leave messages for one another about their preshared keys, and get what was left for them: by POST of a
// PairMail, for a PairMailbox. It is part of the control API inside WireGuard, so it needs no tunnel between the two. Only the two Nodes
// can read or make a message; the coordinator keeps and hands over bytes.
const PathPairMail = "/v1/pair-mail"

// Limits of PathPairMail.
const (
	MaxPairMessage  = 4 << 10 // bytes
	MaxPairMessages = 32      // in one request, and in one answer
	MaxPairDone     = 4 * MaxPairMessages
	MaxPairMailBody = 256 << 10 // bytes
)

// PairKeys says whether a Node agrees on preshared keys with its Peers, and whether it goes without.
type PairKeys string

// The choices. The empty one is to agree where both ends can, and to go without one else.
const (
	PairKeysPreferred PairKeys = ""
	// PairKeysRequired keeps gateways and workstations apart that have no preshared key.
	PairKeysRequired PairKeys = "required"
	// PairKeysOff is without preshared keys.
	PairKeysOff PairKeys = "off"
)

// PairMail is what a Node leaves, and what it has done with.
type PairMail struct {
	Format int           `json:"format"`
	Post   []PairMessage `json:"post,omitempty"`
	// Done are the IDs of messages that need not be kept for the Node any more.
	Done []string `json:"done,omitempty"`
}

// PairMessage is one message. A newer one to the same Node takes its place.
type PairMessage struct {
	// To is a Node's ID.
	To string `json:"to"`
	// Body has 1 to MaxPairMessage bytes.
	Body []byte `json:"body"`
}

// PairMailbox is what was left for a Node.
type PairMailbox struct {
	// Mail is at most MaxPairMessages, the oldest first. What is not Done comes again.
	Mail []PairItem `json:"mail,omitempty"`
	// More says that there is more than that.
	More bool `json:"more,omitempty"`
	// Deaf are those Nodes posted to whose software does not ask for messages. Unknown are those that are no Peers of the Node.
	Deaf    []string `json:"deaf,omitempty"`
	Unknown []string `json:"unknown,omitempty"`
}

// PairItem is a message for the Node that asks.
type PairItem struct {
	ID   string `json:"id"`
	From string `json:"from"`
	Body []byte `json:"body"`
}
