package provisioningtest

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/coordinator"
	"github.com/towpath/towpath/provisioning/nodeapi"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/wire"
)

// Actor is who all operations of this package are done by.
const Actor = "test"

// Network is a coordinator in this process.
type Network struct {
	*coordinator.Coordinator
	Store store.Store
	Keys  *coordinator.Keys
	// Public and Control are what boxes reach.
	Public, Control http.Handler
}

// Options change what New makes.
type Options struct {
	Init coordinator.InitOptions
	Log  *slog.Logger
	// Now gives the coordinator's stored timestamps; nil means time.Now.
	Now func() time.Time
	// Keys are drawn unless given.
	Keys *coordinator.Keys
	// Relay says that the hub is a relay.
	Relay bool
}

// sharedKeys are the same for all networks of a test binary that do not care: making them is slow under the race detector.
var sharedKeys = sync.OnceValues(coordinator.NewKeys)

// New initializes a network in an empty store and opens it. The caller closes the store.
func New(t testing.TB, st store.Store, o Options) *Network {
	t.Helper()
	if len(o.Init.HubEndpoints) == 0 {
		o.Init.HubEndpoints = []string{"192.0.2.1:51820"}
	}
	if len(o.Init.URLs) == 0 {
		o.Init.URLs = []string{"http://192.0.2.1"}
	}
	if o.Init.Now == nil {
		o.Init.Now = o.Now
	}
	if err := coordinator.Init(t.Context(), st, o.Init); err != nil {
		t.Fatalf("initialize the network: %v", err)
	}
	return Open(t, st, o)
}

// Open opens a network that New has made, as after a restart. The keys must be given if the network was made with its own.
func Open(t testing.TB, st store.Store, o Options) *Network {
	t.Helper()
	keys := o.Keys
	if keys == nil {
		var err error
		if keys, err = sharedKeys(); err != nil {
			t.Fatalf("make keys: %v", err)
		}
	}
	c, err := coordinator.New(st, keys, coordinator.Options{Log: o.Log, Now: o.Now, Relay: o.Relay})
	if err != nil {
		t.Fatalf("open the network: %v", err)
	}
	return &Network{Coordinator: c, Store: st, Keys: keys, Public: nodeapi.Public(c), Control: nodeapi.Control(c)}
}

// Adopt lets a Node of an earlier coordinator on the same store call this one.
func (n *Network) Adopt(b *Node) { b.n = n }

// Clinic makes a clinic that only calls out.
func (n *Network) Clinic(t testing.TB, name string) coordinator.SiteInfo {
	t.Helper()
	return n.Site(t, coordinator.NewSite{Name: name, Kind: wire.Clinic})
}

// Center makes a center with an endpoint.
func (n *Network) Center(t testing.TB, name, endpoint string) coordinator.SiteInfo {
	t.Helper()
	return n.Site(t, coordinator.NewSite{Name: name, Kind: wire.Center, Endpoint: endpoint})
}

// Site makes any Site.
func (n *Network) Site(t testing.TB, s coordinator.NewSite) coordinator.SiteInfo {
	t.Helper()
	info, err := n.CreateSite(context.WithoutCancel(t.Context()), Actor, s)
	if err != nil {
		t.Fatalf("create site %s: %v", s.Name, err)
	}
	return info
}

// Token makes a token for a Site.
func (n *Network) Token(t testing.TB, site string) wire.Token {
	t.Helper()
	_, token, err := n.CreateToken(context.WithoutCancel(t.Context()), Actor, coordinator.NewToken{Site: site})
	if err != nil {
		t.Fatalf("create a token for %s: %v", site, err)
	}
	return token
}

// DICOM makes a DICOM service.
func (n *Network) DICOM(t testing.TB, site, name, aeTitle string) coordinator.ServiceInfo {
	t.Helper()
	info, err := n.CreateService(context.WithoutCancel(t.Context()), Actor, coordinator.NewService{
		Site: site, Name: name, Protocol: wire.DICOM, AETitle: aeTitle, Target: "192.168.1.10:104",
	})
	if err != nil {
		t.Fatalf("create service %s: %v", name, err)
	}
	return info
}

// Grant allows a Site to use a Service at the usual port.
func (n *Network) Grant(t testing.TB, service, site string) {
	t.Helper()
	if _, err := n.Allow(context.WithoutCancel(t.Context()), Actor, service, site, 0); err != nil {
		t.Fatalf("grant %s to %s: %v", service, site, err)
	}
}

// Remove removes a Node.
func (n *Network) Remove(t testing.TB, id provisioning.NodeID) {
	t.Helper()
	if err := n.RemoveNode(context.WithoutCancel(t.Context()), Actor, id); err != nil {
		t.Fatalf("remove node %s: %v", id, err)
	}
}
