package netmap

import (
	"errors"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/wire"
)

// ErrUnknownNode means that a Snapshot has no such Node.
var ErrUnknownNode = errors.New("the network has no such node")

// Snapshot is one consistent picture of the network's intent.
type Snapshot struct {
	// Network is wire.NetworkID of the signing key.
	Network    string
	Generation uint64
	// Now becomes NetMap.Issued, Expires its namesake.
	Now, Expires time.Time
	Hub          wire.Hub
	// HubRelay says that the hub is a relay too.
	HubRelay bool
	// PairKeys says whether Nodes agree on preshared keys.
	PairKeys wire.PairKeys
	Sites    []provisioning.Site
	Nodes    []provisioning.Node
	Services []provisioning.Service
	Grants   []provisioning.Grant
	Ranges   []provisioning.Range
}

// Hash identifies the content of a map: all but when and for which generation it was issued.
func Hash(m wire.NetMap) (wire.ContentHash, error) {
	e, err := wire.Encode(m)
	return e.Hash, err
}

// Omission names an object that appears in no map, and why.
type Omission struct {
	// Object is "node node_…", "service lab-pacs", "grant of lab-pacs to praxis-nord".
	Object string
	Reason string
}
