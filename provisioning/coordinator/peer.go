package coordinator

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// NewPeer describes an unmanaged device: any that speaks WireGuard and runs none of our software.
type NewPeer struct {
	// Site is the name or id of the Site that the device is of: it may use what the Site may use.
	Site string
	// Name is unique within the Site: a lower-case slug.
	Name      string
	PublicKey wgkey.PublicKey
	// Address is what the device will have; the zero value lets the coordinator choose.
	Address netip.Addr
}

// PeerConfig is what the configuration of an unmanaged device is written from, without its private key.
type PeerConfig struct {
	Node     provisioning.Node
	SiteName string
	// Peers are those of the device's map and Uses what it reaches there; both are empty while the Node is not active.
	Peers []wire.Peer
	Uses  []wire.Use
}

// AddPeer makes a Node of an unmanaged device.
func (c *Coordinator) AddPeer(ctx context.Context, actor string, p NewPeer) (PeerConfig, error) {
	if err := provisioning.CheckName("device", p.Name); err != nil {
		return PeerConfig{}, err
	}
	if p.PublicKey.IsZero() || p.PublicKey == c.keys.HubPublicKey() {
		return PeerConfig{}, provisioning.Errorf(provisioning.Invalid, "this is not the key of a device").
			WithHint("give the public half of the device's own key")
	}
	var id provisioning.NodeID
	err := c.changePlan(ctx, actor, "peer.add", func(tx *planTx) (string, string, error) {
		site, err := siteNamed(tx, p.Site)
		if err != nil {
			return "", "", err
		}
		n := provisioning.Node{
			ID: provisioning.NewNodeID(), Site: site.ID, Kind: wire.Unmanaged, Name: p.Name, PublicKey: p.PublicKey, Enrolled: tx.at, Since: tx.at,
		}
		n.State, n.Reason = c.firstState(false)
		id = n.ID
		if err := peerIsFree(tx, n, site); err != nil {
			return "", "", err
		}
		if n.Address, err = tx.addressFor(site, n.Kind, p.Address); err != nil {
			return "", "", err
		}
		if err := tx.Nodes().Create(n); err != nil {
			return "", "", fmt.Errorf("store the device: %w", err)
		}
		return string(n.ID), fmt.Sprintf("device %s, %v at site %s, key %s", n.Name, n.Address, site.Name, n.PublicKey), nil
	})
	if err != nil {
		return PeerConfig{}, err
	}
	return c.peerConfig(ctx, func(tx store.Tx) (provisioning.Node, error) { return nodeByID(tx, id) })
}

// peerIsFree refuses a name or key that another Node has.
func peerIsFree(tx store.Tx, p provisioning.Node, site provisioning.Site) error {
	nodes, err := tx.Nodes().List()
	if err != nil {
		return fmt.Errorf("read the nodes: %w", err)
	}
	for _, n := range nodes {
		switch {
		case n.PublicKey == p.PublicKey || n.NextKey == p.PublicKey:
			return provisioning.Errorf(provisioning.Conflict, "this key is the one of %s at site %s", nodeNoun(n), ownerName(tx, string(n.Site))).
				WithHint("each device needs a key of its own: let it make another")
		case n.Site == p.Site && n.Kind == wire.Unmanaged && n.Name == p.Name:
			return provisioning.Errorf(provisioning.Conflict, "site %s has a device %s already", site.Name, p.Name).
				WithHint("choose another name, or \"towpath peer remove %s\" first", p.Name)
		}
	}
	return nil
}

// PeerConfig returns what an unmanaged device has to have now. site may be empty if one Site only has a device of that name; the name may
// be the Node's id.
func (c *Coordinator) PeerConfig(ctx context.Context, site, name string) (PeerConfig, error) {
	return c.peerConfig(ctx, func(tx store.Tx) (provisioning.Node, error) { return peerNamed(tx, site, name) })
}

func (c *Coordinator) peerConfig(ctx context.Context, find func(store.Tx) (provisioning.Node, error)) (PeerConfig, error) {
	var out PeerConfig
	err := c.st.View(ctx, func(tx store.Tx) error {
		var err error
		if out.Node, err = find(tx); err != nil {
			return err
		}
		out.SiteName = ownerName(tx, string(out.Node.Site))
		return nil
	})
	if err != nil || out.Node.State != provisioning.NodeActive {
		return out, err
	}
	x, err := c.newest(ctx)
	if err != nil {
		return PeerConfig{}, err
	}
	m, _, err := c.compile(x, out.Node.ID)
	if err != nil {
		return PeerConfig{}, err
	}
	out.Peers, out.Uses = m.Peers, m.Uses
	return out, nil
}

// RemovePeer takes an unmanaged device out of the network, see RemoveNode.
func (c *Coordinator) RemovePeer(ctx context.Context, actor, site, name string) error {
	var id provisioning.NodeID
	err := c.st.View(ctx, func(tx store.Tx) error {
		n, err := peerNamed(tx, site, name)
		id = n.ID
		return err
	})
	if err != nil {
		return err
	}
	return c.RemoveNode(ctx, actor, id)
}

// peerNamed finds an unmanaged device by name or id.
func peerNamed(tx store.Tx, site, name string) (provisioning.Node, error) {
	var of provisioning.SiteID
	if site != "" {
		s, err := siteNamed(tx, site)
		if err != nil {
			return provisioning.Node{}, err
		}
		of = s.ID
	}
	nodes, err := tx.Nodes().List()
	if err != nil {
		return provisioning.Node{}, fmt.Errorf("read the nodes: %w", err)
	}
	var found []provisioning.Node
	var sites []string
	for _, n := range nodes {
		if n.Kind == wire.Unmanaged && (n.Name == name || string(n.ID) == name) && (of == "" || n.Site == of) {
			found = append(found, n)
			sites = append(sites, ownerName(tx, string(n.Site)))
		}
	}
	switch len(found) {
	case 0:
		return provisioning.Node{}, provisioning.Errorf(provisioning.NotFound, "there is no device named %q", clean(name, maxShort)).
			WithHint("\"towpath peer list\" shows the names")
	case 1:
		return found[0], nil
	}
	return provisioning.Node{}, provisioning.Errorf(provisioning.Conflict, "the sites %s have a device %s each",
		strings.Join(sites[:min(len(sites), maxUses)], ", "), name).WithHint("say which with --site")
}
