package reconcile

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync/atomic"

	"github.com/towpath/towpath/gateway/health"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/lantls"
)

// Certificates are what a box shows on the LAN and believes there.
type Certificates interface {
	// Certificate is shown to who reached the box at a local address. own asks for the operator's instead of the Site's.
	Certificate(own bool, local netip.Addr) (*tls.Certificate, error)
	// Pool holds the Site's authority, and those of further PEM certificates.
	Pool(further string) *x509.CertPool
	// Revoked reports whether the box itself has revoked a certificate.
	Revoked(serial string) bool
	// SetNames are what the box's certificate has besides the addresses it is reached at.
	SetNames(names []string)
}

// LANTLS is what a Runner needs for TLS on the LAN. The zero value has cleartext only, and notes nothing.
type LANTLS struct {
	Book         *lantls.Book
	Certificates Certificates
}

// lanDoor is what listeners and deliveries share of the policy of now.
type lanDoor struct {
	LANTLS
	plan    atomic.Pointer[wire.LANTLS]
	profile atomic.Pointer[lantls.Profile]
}

// set makes a policy that of now, also for connections to come at listeners that run already.
func (d *lanDoor) set(t *wire.LANTLS, listeners []Listener) {
	d.plan.Store(t)
	if d.Book == nil {
		return
	}
	var rules []lantls.Rule
	if t != nil {
		for _, r := range t.Cleartext {
			rules = append(rules, lantls.Rule{Device: r.Device, Service: r.Service, Until: r.Until})
		}
	}
	ports := map[string]uint16{}
	for _, l := range listeners {
		ap, err := netip.ParseAddrPort(bindable(l.Address))
		if err != nil || !l.TLS {
			continue
		}
		for _, r := range l.Routes {
			ports[r.Service] = ap.Port()
		}
	}
	d.Book.Set(rules, ports)
	d.profile.Store(d.profileOf(t))
}

// bindable gives ":104" an address, so that it can be parsed.
func bindable(address string) string {
	if len(address) > 0 && address[0] == ':' {
		return "0.0.0.0" + address
	}
	return address
}

func (d *lanDoor) profileOf(t *wire.LANTLS) *lantls.Profile {
	if t == nil || d.Certificates == nil {
		return nil
	}
	d.Certificates.SetNames(t.Names)
	p := &lantls.Profile{
		Certificate: func(local netip.Addr) (*tls.Certificate, error) { return d.Certificates.Certificate(t.Own, local) },
		Devices:     d.Certificates.Pool(t.Trust), ServerOnly: t.ServerOnly,
		Revoked: func(serial string) bool { return slices.Contains(t.Revoked, serial) || d.Certificates.Revoked(serial) },
	}
	for _, l := range t.Legacy {
		p.Legacy = append(p.Legacy, lantls.Legacy{Device: l.Device, TLS10: l.Profile == wire.LegacyTLS10, Until: l.Until})
	}
	return p
}

// currentProfile takes an authority that has just been made, or restored, into the pool.
func (d *lanDoor) currentProfile() *lantls.Profile {
	p, t := d.profile.Load(), d.plan.Load()
	if p == nil || t == nil {
		return nil
	}
	q := *p
	q.Devices = d.Certificates.Pool(t.Trust)
	return &q
}

// admit is the gate of a LAN listener for one association or message.
func (d *lanDoor) admit(l Listener) func(c net.Conn, service, calling string) string {
	if d.Book == nil || l.Side != LAN {
		return nil
	}
	return func(c net.Conn, service, calling string) string {
		return d.Book.Enter(lantls.Visit{
			Source: lantls.SourceOf(c), Protocol: string(l.Protocol), Service: service, Calling: calling, TLS: l.TLS,
		})
	}
}

// wrap puts TLS, or the recognition of it, before a LAN listener's Handler.
func (d *lanDoor) wrap(l Listener, h proxy.Handler) (proxy.Handler, error) {
	switch {
	case l.Side != LAN || d.Book == nil && !l.TLS:
		return h, nil
	case d.Book == nil || d.Certificates == nil:
		return nil, errors.New("this program has no certificates, so that nothing can be taken over TLS")
	case !l.TLS:
		return lantls.NewCleartext(h, d.Book), nil
	}
	cfg := lantls.ServerConfig{Handler: h, Profile: d.currentProfile, Book: d.Book}
	if l.Protocol == wire.DICOM {
		cfg.Reject = lantls.DICOMReject()
	}
	return lantls.NewServer(cfg), nil
}

// reach is the Network by which a target on the LAN is dialed.
func (r *Runner) reach(t wire.TLSTarget) proxy.Network {
	if t == (wire.TLSTarget{}) {
		return r.cfg.LANNet
	}
	if r.door.Certificates == nil || r.door.Book == nil {
		return brokenNetwork{errors.New("this program has no certificates, so that nothing can be reached over TLS"), r.cfg.LANNet}
	}
	cfg := lantls.ClientConfig{Name: t.Name, Book: r.door.Book, Certificate: func() (*tls.Certificate, error) {
		plan := r.door.plan.Load()
		return r.door.Certificates.Certificate(plan != nil && plan.Own, netip.Addr{})
	}}
	switch t.Verify {
	case wire.VerifySite:
		cfg.Roots = r.door.Certificates.Pool("")
	case wire.VerifyCA:
		cfg.Roots = x509.NewCertPool()
		cfg.Roots.AppendCertsFromPEM([]byte(t.CA))
	case wire.VerifyPin:
		b, err := hex.DecodeString(t.Pin)
		if err != nil || len(b) != sha256.Size {
			return brokenNetwork{fmt.Errorf("the pinned certificate of %s is no SHA-256", t.Service), r.cfg.LANNet}
		}
		cfg.Pin = [sha256.Size]byte(b)
	default:
		return brokenNetwork{fmt.Errorf("the certificate of %s is to be verified by %q, which is not known to this build", t.Service, t.Verify), r.cfg.LANNet}
	}
	return lantls.NewClient(r.cfg.LANNet, cfg)
}

// useTLS adds the TLS listener of a Use.
func (c *compiler) useTLS(u wire.Use, r Route) {
	port := c.lanTLS.Port(u.Protocol, u.Service)
	if port == 0 {
		return
	}
	for _, addr := range c.lanAddresses(port) {
		if other, taken := c.twin(addr, r); taken {
			c.problems = append(c.problems, Problem{Subject: "service:" + u.Service, Message: fmt.Sprintf(
				"service %s is not taken over TLS: at port %d it could not be told from %s; give it a port of its own with \"towpath tls set --port %s=PORT\"",
				u.Service, port, other, u.Service)})
			return
		}
		c.listenLAN(addr, u.Protocol, true, r)
	}
}

// twin finds who has the same way in: Services that cleartext tells apart by their ports.
func (c *compiler) twin(addr string, r Route) (string, bool) {
	for _, l := range c.listeners {
		if l.Side != LAN || l.Address != addr {
			continue
		}
		if !l.TLS {
			return l.Routes[0].Service, true
		}
		for _, o := range l.Routes {
			if o.AETitle == r.AETitle && o.Receiver == r.Receiver && o.HL7.Types == r.HL7.Types && !o.HL7.Copy && !r.HL7.Copy {
				return o.Service, true
			}
		}
	}
	return "", false
}

// lanAddresses are where a port is listened on.
func (c *compiler) lanAddresses(port uint16) []string {
	var out []string
	for _, a := range c.lan {
		addr := ":" + strconv.Itoa(int(port))
		if a.IsValid() && !a.IsUnspecified() {
			addr = netip.AddrPortFrom(a, port).String()
		}
		out = append(out, addr)
	}
	return out
}

// CodeLANTLS is raised when the box has no certificate to show.
const CodeLANTLS = "lan-tls"

// applyLANTLS makes the policy of the map that of now.
func (r *Runner) applyLANTLS(d Desired) {
	r.door.set(d.LANTLS, d.Listeners)
	if d.LANTLS == nil || r.door.Certificates == nil {
		r.cfg.Health.Clear(CodeLANTLS)
		return
	}
	if _, err := r.door.Certificates.Certificate(d.LANTLS.Own, netip.Addr{}); err != nil {
		r.cfg.Health.Raise(CodeLANTLS, health.Error, "nothing can be taken over TLS: "+err.Error(), r.door.Book.Now())
		return
	}
	r.cfg.Health.Clear(CodeLANTLS)
}

// brokenNetwork dials nothing and says why.
type brokenNetwork struct {
	err error
	proxy.Network
}

// DialContext implements proxy.Network.
func (n brokenNetwork) DialContext(context.Context, string, string) (net.Conn, error) {
	return nil, n.err
}
