package dicom

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/dicom/pdu"
	"github.com/towpath/towpath/proxy/dicom/ul"
)

const (
	// probeShare is how many transfer syntaxes one context of the first round has: DCMTK keeps 50.
	probeShare = 28
	// probeShares is how many such contexts an association has, which keeps the request below 32 KiB.
	probeShares = 32
	// probePause lies between two associations, so that a probe is no load.
	probePause = 20 * time.Millisecond
)

// ProbeConfig says whom to probe.
type ProbeConfig struct {
	Network proxy.Network
	// Target is a host and port that the Network understands.
	Target string
	// CallingAEs are tried in their order until the archive knows one; none means DefaultCallingAE.
	CallingAEs []string
	CalledAE   string
	// Also are SOP classes beside those that are always asked for.
	Also   []string
	Limits Limits
	// Log may be nil.
	Log *slog.Logger
}

// Probe finds out what an archive accepts, by associations that propose presentation contexts and are released: no message is sent. First
// it asks for each SOP class whether any transfer syntax is accepted, then for the pairs one by one, since that is how objects are
// sent. Against an archive that takes everything that are about 80 associations, one after the other. Errors are sentences for a
// technician.
func Probe(ctx context.Context, cfg ProbeConfig) (*Capabilities, error) {
	p := &prober{
		user:    newUser(cfg.Network, cfg.Target, cfg.CalledAE, cfg.Limits, cfg.Log),
		calling: cfg.CallingAEs,
		found:   &Capabilities{Probed: time.Now().UTC(), Syntaxes: knownTransferSyntaxes(), Classes: map[string]uint64{}},
	}
	if len(p.calling) == 0 {
		p.calling = []string{DefaultCallingAE}
	}
	if err := p.run(ctx, cfg.Also); err != nil {
		return nil, err
	}
	return p.found, nil
}

type prober struct {
	*user
	calling []string
	known   bool // the archive knows calling[0]
	found   *Capabilities
	asked   int // associations
}

// services are what an archive is asked for beside storage: with uncompressed transfer syntaxes only.
var services = [...]string{StorageCommitment, StudyRootFind}

// share is one context of the first round.
type share struct {
	class    string
	syntaxes []string
}

func (p *prober) run(ctx context.Context, also []string) error {
	classes := storageClasses()
	for _, uid := range also {
		if IsStorageClass(uid) && !slices.Contains(classes, uid) && len(classes)+len(services) < maxProbeClasses {
			classes = append(classes, uid)
		}
	}
	var shares []share
	for _, uid := range classes {
		p.found.Classes[uid] = 0
		for s := range slices.Chunk(p.found.Syntaxes, probeShare) {
			shares = append(shares, share{class: uid, syntaxes: s})
		}
	}
	for _, uid := range services {
		p.found.Classes[uid] = 0
		shares = append(shares, share{class: uid, syntaxes: []string{ImplicitLittleEndian, ExplicitLittleEndian}})
	}
	left, err := p.firstRound(ctx, shares)
	if err != nil {
		return err
	}
	for pairs := range slices.Chunk(left, maxContexts) {
		contexts := make([]share, len(pairs))
		for i, k := range pairs {
			contexts[i] = share{class: k.class, syntaxes: []string{k.syntax}}
		}
		answers, err := p.propose(ctx, contexts)
		if err != nil {
			return err
		}
		for i, k := range pairs {
			if answers[i] == k.syntax {
				p.found.Classes[k.class] |= 1 << slices.Index(p.found.Syntaxes, k.syntax)
			}
		}
	}
	return nil
}

// firstRound returns the pairs of which something was accepted.
func (p *prober) firstRound(ctx context.Context, shares []share) ([]kind, error) {
	var left []kind
	for some := range slices.Chunk(shares, probeShares) {
		answers, err := p.propose(ctx, some)
		if err != nil {
			return nil, err
		}
		for i, s := range some {
			if answers[i] == "" {
				continue
			}
			for _, syntax := range s.syntaxes {
				left = append(left, kind{class: s.class, syntax: syntax})
			}
		}
	}
	return left, nil
}

// propose makes one association and returns the accepted transfer syntax of each context, empty for none.
func (p *prober) propose(ctx context.Context, shares []share) ([]string, error) {
	if p.asked++; p.asked > 1 {
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(probePause):
		}
	}
	contexts := make([]pdu.ProposedContext, len(shares))
	for i, s := range shares {
		contexts[i] = pdu.ProposedContext{ID: uint8(2*i + 1), AbstractSyntax: s.class, TransferSyntaxes: s.syntaxes}
	}
	if err := p.associate(ctx, contexts); err != nil {
		return nil, err
	}
	defer p.release(ctx)
	out := make([]string, len(shares))
	for i := range shares {
		if pc, ok := p.a.Context(contexts[i].ID); ok && slices.Contains(shares[i].syntaxes, pc.TransferSyntax) {
			out[i] = pc.TransferSyntax
		}
	}
	if id := p.a.Accepted().UserInfo; p.asked == 1 {
		p.found.ImplementationClass, p.found.ImplementationVersion = printable(id.ImplementationClass), printable(id.ImplementationVersion)
	}
	return out, nil
}

// associate tries the calling AE titles until the archive has known one.
func (p *prober) associate(ctx context.Context, contexts []pdu.ProposedContext) error {
	for {
		err := p.openContexts(ctx, p.calling[0], contexts)
		rejected, isRejection := errors.AsType[*ul.RejectedError](err)
		if !isRejection || rejected.RJ.Reason != pdu.UserCallingAE || rejected.RJ.Source != pdu.SourceUser || p.known || len(p.calling) == 1 {
			if err != nil {
				return fmt.Errorf("ask what it accepts: %w", err)
			}
			p.known, p.found.CallingAE = true, p.calling[0]
			return nil
		}
		p.calling = p.calling[1:]
	}
}
