package netstack_test

import "github.com/towpath/towpath/tunnel"

type tunnelConfig = tunnel.Config
type tunnelPeer = tunnel.Peer
