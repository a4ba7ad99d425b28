package gateway

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/towpath/towpath/gateway/health"
	"github.com/towpath/towpath/gateway/localapi"
	"github.com/towpath/towpath/gateway/reconcile"
	"github.com/towpath/towpath/gateway/sitecert"
	"github.com/towpath/towpath/gateway/state"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/proxy/lantls"
)

// Condition codes of the LAN's protection; each ends with who it is about.
const (
	codeTransition = "transition/"
	codeLANFault   = "lan-tls-fault/"
	codeLANCert    = "lan-cert/"
)

const (
	devicesFile = "lan-devices.json"
	// soonEnds is how long before the end of cleartext a Condition names who still speaks it, stillUsed what "still" means.
	soonEnds  = 14 * 24 * time.Hour
	stillUsed = 7 * 24 * time.Hour
	// refusedShown is how long a Condition tells of a device that was refused.
	refusedShown = 24 * time.Hour
	// reportedDevices bounds what the coordinator is told.
	reportedDevices = 200
)

// lanTLS is the box's part of TLS on the LAN.
type lanTLS struct {
	*sitecert.Authority
	own   *sitecert.Own
	book  *lantls.Book
	dir   *state.Dir
	floor atomic.Pointer[time.Time]
}

// openLANTLS reads certificates and devices. Without either the box works, and says so.
func openLANTLS(opt Options) (*lanTLS, error) {
	l := &lanTLS{dir: opt.Dir}
	l.own = sitecert.NewOwn(opt.Dir.Path("lan-tls/server.pem"), opt.Dir.Path("lan-tls/server-key.pem"))
	l.book = lantls.NewBook(l.now)
	var err error
	if l.Authority, err = sitecert.Open(sitecert.Options{Dir: opt.Dir, Site: opt.Identity.Site, Now: l.now}); err != nil {
		return nil, fmt.Errorf("start TLS on the LAN: %w", err)
	}
	b, err := os.ReadFile(opt.Dir.Path(devicesFile))
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	var devices []lantls.Device
	if err == nil {
		err = json.Unmarshal(b, &devices)
	}
	if err != nil {
		opt.Log.Warn("what is known of the devices on the LAN cannot be read, and is gathered anew", "error", err)
		return l, nil
	}
	l.book.Restore(devices)
	return l, nil
}

// now is the box's clock, but never before a moment that it has certainly lived through: setting the clock back opens nothing.
func (l *lanTLS) now() time.Time {
	now := time.Now()
	if f := l.floor.Load(); f != nil && now.Before(*f) {
		return *f
	}
	return now
}

// Certificate implements reconcile.Certificates.
func (l *lanTLS) Certificate(own bool, local netip.Addr) (*tls.Certificate, error) {
	if own {
		return l.own.Certificate()
	}
	return l.Authority.Certificate(local)
}

// save stores what is known of the devices.
func (l *lanTLS) save() error {
	if !l.book.Changed() {
		return nil
	}
	devices := l.book.Devices()
	for i := range devices {
		devices[i].Until = time.Time{}
	}
	if err := l.dir.SaveDocument(devicesFile, devices); err != nil {
		return fmt.Errorf("store what is known of the devices on the LAN: %w", err)
	}
	return nil
}

// saveLANBook is done once a minute, and at the end.
func (g *Gateway) saveLANBook() {
	if err := g.lanTLS.save(); err != nil {
		g.opt.Log.Warn("the devices on the LAN cannot be stored", "error", err)
	}
}

// observeLANTLS turns what was noted into Conditions.
func (g *Gateway) observeLANTLS(m wire.NetMap) {
	l, now := g.lanTLS, g.lanTLS.now()
	var codes []string
	raise := func(code string, s health.Severity, text string) {
		codes = append(codes, code)
		if g.health.Raise(code, s, text, now) && s == health.Error {
			g.opt.Log.Error("on the LAN", "code", code, "message", text)
		}
	}
	for d, text := range l.book.Late(refusedShown) {
		raise(codeTransition+"refused/"+d.Source.String()+"/"+d.Calling+"/"+d.Service, health.Error, text)
	}
	if end, names := endsSoon(l.book.Devices(), now); len(names) > 0 {
		raise(codeTransition+"soon", health.Warning, fmt.Sprintf(
			"cleartext ends at %s, and %d devices have used it within a week: %s. Move them to TLS, or extend the time with \"towpath transition extend\"",
			end.UTC().Format(time.RFC3339), len(names), list(names, 5)))
	}
	g.health.Keep(codeTransition, codes)

	codes = nil
	for _, f := range l.book.Faults() {
		code := codeLANFault + f.Source.String()
		if now.Sub(f.Tally.Last) > toldFor || slices.Contains(codes, code) {
			continue
		}
		raise(code, health.Warning, fmt.Sprintf("%d connections from %s failed (%s): %s", f.Tally.Count, f.Source, f.Failure, f.Failure.Advice()))
	}
	g.health.Keep(codeLANFault, codes)

	codes = nil
	for _, e := range l.Endings() {
		severity, text := endingText(e)
		raise(codeLANCert+e.Device, severity, text)
	}
	if m.LANTLS != nil && m.LANTLS.Own {
		if c, err := l.own.Certificate(); err == nil {
			if left := c.Leaf.NotAfter.Sub(now); left < 30*24*time.Hour {
				severity, days := endingSeverity(int(left / (24 * time.Hour)))
				raise(codeLANCert+"own", severity, fmt.Sprintf("the operator's own certificate of this box ends %s: put a new one in its place", days))
			}
		}
	}
	g.health.Keep(codeLANCert, codes)
}

// endsSoon returns the nearest end of cleartext that is not far, and who still uses it.
func endsSoon(devices []lantls.Device, now time.Time) (end time.Time, names []string) {
	for _, d := range devices {
		left := d.Until.Sub(now)
		if d.Until.IsZero() || left <= 0 || left > soonEnds || d.Cleartext.Count == 0 || now.Sub(d.Cleartext.Last) > stillUsed ||
			d.TLS.Last.After(d.Cleartext.Last) {
			continue
		}
		if end.IsZero() || d.Until.Before(end) {
			end = d.Until
		}
		names = append(names, d.Name())
	}
	return end, names
}

func list(names []string, most int) string {
	if len(names) > most {
		return strings.Join(names[:most], ", ") + fmt.Sprintf(" and %d more", len(names)-most)
	}
	return strings.Join(names, ", ")
}

// endingText changes at 30, 14, 7 and 1 days, so that each is told once.
func endingText(e sitecert.Ending) (health.Severity, string) {
	severity, days := endingSeverity(e.Days)
	return severity, fmt.Sprintf("the certificate of device %s (%s) ends %s: make another with \"towpath cert issue --device %s\" and install it",
		e.Device, e.Serial, days, e.Device)
}

func endingSeverity(days int) (health.Severity, string) {
	switch {
	case days < 0:
		return health.Error, "or has ended: its time is over"
	case days < 1:
		return health.Error, "within a day"
	case days < 7:
		return health.Warning, "within 7 days"
	case days < 14:
		return health.Warning, "within 14 days"
	}
	return health.Info, "within 30 days"
}

// lanReport is what the coordinator is told.
func (g *Gateway) lanReport() *wire.LANReport {
	devices := g.lanTLS.book.Devices()
	r := &wire.LANReport{Authority: g.lanTLS.PEM()}
	if len(devices) == 0 && r.Authority == "" {
		return nil
	}
	for _, d := range devices {
		if len(r.Devices) == reportedDevices {
			r.More = len(devices) - reportedDevices
			break
		}
		r.Devices = append(r.Devices, wire.LANDevice{
			Source: d.Source, Calling: d.Calling, Protocol: wire.Protocol(d.Protocol), Service: d.Service,
			Cleartext: d.Cleartext.Count, LastCleartext: d.Cleartext.Last, TLS: d.TLS.Count, LastTLS: d.TLS.Last,
			Refused: d.Refused.Count, LastRefused: d.Refused.Last, Until: d.Until,
		})
	}
	return r
}

// LAN implements localapi.Certificates.
func (g *Gateway) LAN() localapi.LAN {
	l := localapi.LAN{Devices: g.lanTLS.book.Devices(), Faults: g.lanTLS.book.Faults(), Authority: g.lanTLS.PEM(), Issued: g.lanTLS.List()}
	if m := g.currentMap(); m.LANTLS != nil {
		l.Policy = m.LANTLS
	}
	return l
}

// Issue implements localapi.Certificates.
func (g *Gateway) Issue(r sitecert.Request) (sitecert.Bundle, error) {
	b, err := g.lanTLS.Issue(r)
	if err == nil {
		g.opt.Log.Info("a certificate was issued to a device on the LAN", "device", r.Device, "serial", b.Issued.Serial, "expires", b.Issued.Expires)
	}
	return b, err
}

// Revoke implements localapi.Certificates.
func (g *Gateway) Revoke(serial string) (bool, error) {
	ok, err := g.lanTLS.Revoke(serial)
	if ok && err == nil {
		g.opt.Log.Info("a certificate of a device on the LAN was revoked", "serial", serial)
	}
	return ok, err
}

// BackupAuthority implements localapi.Certificates.
func (g *Gateway) BackupAuthority(passphrase string) ([]byte, error) {
	return g.lanTLS.Backup(passphrase)
}

// RestoreAuthority implements localapi.Certificates.
func (g *Gateway) RestoreAuthority(backup []byte, passphrase string) error {
	if err := g.lanTLS.Restore(backup, passphrase); err != nil {
		return err
	}
	g.opt.Log.Info("the authority of the LAN's certificates was restored from a backup")
	return nil
}

var (
	_ localapi.Certificates  = (*Gateway)(nil)
	_ reconcile.Certificates = (*lanTLS)(nil)
)
