package dicom

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/dicom/dimse"
)

// EchoConfig says whom to ask.
type EchoConfig struct {
	Network proxy.Network
	// Target is a host and port that the Network understands.
	Target string
	// CallingAE is our own AE title (empty means DefaultCallingAE), CalledAE the device's.
	CallingAE, CalledAE string
	Limits              Limits
	// Log may be nil.
	Log *slog.Logger
}

// EchoResult is what a successful Echo found out.
type EchoResult struct {
	// Connect, Associate and Echo are how long each step took.
	Connect, Associate, Echo time.Duration
	// ImplementationClass and ImplementationVersion are what the device calls its software; MaxLength is the PDU size it takes.
	ImplementationClass, ImplementationVersion string
	MaxLength                                  uint32
}

// Echo asks a device whether it is there and knows us, by association and C-ECHO (PS3.4 annex A). Errors are sentences for a
// technician.
func Echo(ctx context.Context, cfg EchoConfig) (EchoResult, error) {
	u := newUser(cfg.Network, cfg.Target, cfg.CalledAE, cfg.Limits, cfg.Log)
	k := kind{class: Verification, syntax: ImplicitLittleEndian}
	if err := u.open(ctx, callingOr(cfg.CallingAE), []kind{k}); err != nil {
		return EchoResult{}, err
	}
	defer u.release(ctx)
	id, err := u.accepted(k)
	if err != nil {
		return EchoResult{}, fmt.Errorf("%s accepts the association but not C-ECHO: %w", cfg.CalledAE, err)
	}
	began := time.Now()
	set := dimse.EchoRQ{MessageID: u.nextMessage(), SOPClass: Verification}.Set()
	peer := u.a.Accepted().UserInfo
	resp, err := u.exchange(ctx, id, set.Encode(), nil)
	if err != nil {
		return EchoResult{}, err
	}
	if resp.Status != dimse.Success {
		return EchoResult{}, fmt.Errorf("%s answered C-ECHO with status %s", cfg.CalledAE, resp.Status)
	}
	return EchoResult{
		Connect: u.connectTime, Associate: u.associateTime, Echo: time.Since(began),
		ImplementationClass: printable(peer.ImplementationClass), ImplementationVersion: printable(peer.ImplementationVersion),
		MaxLength: peer.MaxLength,
	}, nil
}

func newUser(n proxy.Network, target, called string, lim Limits, log *slog.Logger) *user {
	return &user{network: n, target: target, calledAE: called, limits: lim.withDefaults(), log: orDiscard(log)}
}

func callingOr(ae string) string {
	if ae == "" {
		return DefaultCallingAE
	}
	return ae
}

// echoWait is how long a C-ECHO waits for the state of the archive.
const echoWait = 8 * time.Second

// echo answers a C-ECHO (PS3.4 annex A): that we are here, or where that is asked for, whether the archive is.
func (p *provider) echo(ctx context.Context, id uint8, set *dimse.Set) error {
	status, comment := dimse.Success, ""
	if p.farEcho != nil {
		asking, cancel := context.WithTimeout(ctx, echoWait)
		err := p.farEcho(asking, p.a.Request().CallingAE)
		cancel()
		if err != nil {
			status, comment = dimse.ProcessingFailure, "the archive does not answer; objects are taken all the same"
			p.refuse("a C-ECHO was answered with the state of the archive: " + err.Error())
		}
	}
	return p.respond(ctx, id, dimse.Respond(set, status, comment))
}
