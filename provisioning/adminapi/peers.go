package adminapi

import (
	"context"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/coordinator"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// NewPeer describes an unmanaged device to be added.
type NewPeer struct {
	Site      string     `json:"site"`
	Name      string     `json:"name" doc:"unique within the site" example:"reading-room-2"`
	PublicKey string     `json:"public_key" doc:"WireGuard key of the device in base64; its private half stays where it was made"`
	Address   netip.Addr `json:"address,omitzero" doc:"what the device will have on the overlay; chosen if absent"`
}

// PeerConfig is what the configuration of an unmanaged device is written from, without its private key.
type PeerConfig struct {
	ID        string     `json:"id"`
	Name      string     `json:"name"`
	Site      string     `json:"site"`
	PublicKey string     `json:"public_key"`
	State     string     `json:"state" enum:"active,waiting,quarantined"`
	Reason    string     `json:"reason,omitempty" doc:"why it is not active and has no peers"`
	Address   netip.Addr `json:"address"`
	Former    netip.Addr `json:"former,omitzero"`
	Peers     []PeerPeer `json:"peers" nullable:"false"`
	Uses      []PeerUse  `json:"uses" nullable:"false" doc:"what it reaches"`
	Created   time.Time  `json:"created"`
}

// PeerPeer is another end of the device.
type PeerPeer struct {
	Site       string         `json:"site"`
	PublicKey  string         `json:"public_key"`
	Endpoints  []string       `json:"endpoints" nullable:"false" doc:"host:port, of a relay if it cannot be called itself; none if there is no relay"`
	AllowedIPs []netip.Prefix `json:"allowed_ips" nullable:"false"`
	Keepalive  int            `json:"keepalive,omitempty" doc:"seconds; absent for none"`
}

// PeerUse is a Service that the device may use.
type PeerUse struct {
	Service  string         `json:"service"`
	Site     string         `json:"site"`
	Protocol string         `json:"protocol" enum:"dicom,hl7"`
	AETitle  string         `json:"ae_title,omitempty"`
	Receiver string         `json:"receiver,omitempty"`
	At       netip.AddrPort `json:"at" doc:"where it is on the overlay"`
}

type peerPath struct {
	Name string `path:"name" maxLength:"64" doc:"name or node id"`
	Site string `query:"site" maxLength:"64" doc:"name or id of its site, needed if two have a device of that name"`
}

func (s *server) peers() {
	serve(s, s.operation("create-peer", http.MethodPost, "/v1/peers", "peers", "Add an unmanaged WireGuard device", http.StatusCreated),
		func(ctx context.Context, in *body[NewPeer]) (PeerConfig, error) {
			key, err := wgkey.ParsePublicKey(in.Body.PublicKey)
			if err != nil {
				return PeerConfig{}, provisioning.Errorf(provisioning.Invalid, "this is no WireGuard key").
					WithHint("a key has 44 characters and ends with =; give the public one")
			}
			p, err := s.c.AddPeer(ctx, actorOf(ctx), coordinator.NewPeer{Site: in.Body.Site, Name: in.Body.Name, PublicKey: key, Address: in.Body.Address})
			return peerView(p), err
		})
	serve(s, s.operation("get-peer-config", http.MethodGet, "/v1/peers/{name}", "peers", "What an unmanaged device has to have now", http.StatusOK),
		func(ctx context.Context, in *peerPath) (PeerConfig, error) {
			p, err := s.c.PeerConfig(ctx, in.Site, in.Name)
			return peerView(p), err
		})
	serveEmpty(s, s.operation("remove-peer", http.MethodDelete, "/v1/peers/{name}", "peers", "Take an unmanaged device out of the network", http.StatusNoContent),
		func(ctx context.Context, in *peerPath) error {
			return s.c.RemovePeer(ctx, actorOf(ctx), in.Site, in.Name)
		})
}

func peerView(p coordinator.PeerConfig) PeerConfig {
	return PeerConfig{
		ID: string(p.Node.ID), Name: p.Node.Name, Site: p.SiteName, PublicKey: p.Node.PublicKey.String(), State: p.Node.State.String(),
		Reason: p.Node.Reason, Address: p.Node.Address, Former: p.Node.Former, Created: p.Node.Enrolled,
		Peers: each(p.Peers, func(o wire.Peer) PeerPeer {
			return PeerPeer{
				Site: o.Site, PublicKey: o.PublicKey.String(), Endpoints: list(reachedAt(o)), AllowedIPs: list(o.AllowedIPs), Keepalive: o.Keepalive,
			}
		}),
		Uses: each(p.Uses, func(u wire.Use) PeerUse {
			return PeerUse{
				Service: u.Service, Site: u.Site, Protocol: string(u.Protocol), AETitle: u.AETitle, Receiver: u.Receiver, At: u.Address,
			}
		}),
	}
}

// AddPeer makes a Node of an unmanaged device.
func (c *Client) AddPeer(ctx context.Context, p NewPeer) (PeerConfig, error) {
	return call[PeerConfig](ctx, c, http.MethodPost, "/v1/peers", p)
}

// PeerConfig returns what an unmanaged device has to have now. The site may be empty if one only has a device of that name.
func (c *Client) PeerConfig(ctx context.Context, site, name string) (PeerConfig, error) {
	return call[PeerConfig](ctx, c, http.MethodGet, path("peers", name)+siteQuery(site), nil)
}

// RemovePeer takes an unmanaged device out of the network. The site may be empty if one only has a device of that name.
func (c *Client) RemovePeer(ctx context.Context, site, name string) error {
	return c.send(ctx, http.MethodDelete, path("peers", name)+siteQuery(site), nil)
}

func siteQuery(site string) string {
	if site == "" {
		return ""
	}
	return "?site=" + url.QueryEscape(site)
}

// reachedAt is where a device that knows nothing of relays calls a peer: at a relay as if that were the peer.
func reachedAt(p wire.Peer) []string {
	if len(p.Endpoints) == 0 {
		return p.Relays
	}
	return p.Endpoints
}
