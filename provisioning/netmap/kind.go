package netmap

import (
	"errors"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/wire"
)

// ErrInactive means that a Node is waiting or quarantined, so that it has no map.
var ErrInactive = errors.New("the node takes no part in the network")

// mayUse reports whether Nodes of a kind are told how to reach a Service that their Site may use; own says that it is one of their own Site.
// A gateway stands in the LAN in which those are.
func mayUse(kind wire.NodeKind, own bool) bool {
	switch kind {
	case wire.Gateway:
		return !own
	case wire.Workstation, wire.Unmanaged:
		return true
	default:
		return false
	}
}

func known(kind wire.NodeKind) bool {
	return kind == wire.Gateway || kind == wire.Relay || kind == wire.Workstation || kind == wire.Unmanaged
}

// told is a kind as maps have it.
func told(kind wire.NodeKind) wire.NodeKind {
	if kind == wire.Gateway {
		return ""
	}
	return kind
}

// rotationFault says why a change of a Node's key cannot go on, or nothing. The next key is claimed if another has it, or the hub, in either
// role.
func rotationFault(n provisioning.Node, claimed bool) string {
	switch n.Rotate {
	case "", wire.RotateMake:
		if !n.NextKey.IsZero() {
			return "it has a next key too early"
		}
		return ""
	case wire.RotateWait, wire.RotateTurn:
	default:
		return "it is at an unknown step"
	}
	switch {
	case n.NextKey.IsZero():
		return "it has no next key"
	case claimed:
		return "its next key is not its own alone"
	}
	return ""
}
