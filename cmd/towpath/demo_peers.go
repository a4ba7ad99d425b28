package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/towpath/towpath/gateway/lan"
	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/dicom"
	"github.com/towpath/towpath/proxy/hl7"
)

// demoPeers stand for the systems at both ends: the center's archive and HIS, and clinic A's practice system. What they take over is
// on their channels.
type demoPeers struct {
	archiveTarget, hisTarget, practiceTarget string
	objects                                  chan dicom.StoredObject
	orders, results                          chan arrived

	cancel  context.CancelFunc
	servers errgroup.Group
	close   []func() error
}

// arrived is an HL7 message that a system has taken.
type arrived struct {
	Size   int
	SHA256 [sha256.Size]byte
}

// backlog is how much may arrive before anybody looks; what is beyond waits.
const backlog = 4096

func startDemoPeers(ctx context.Context, d *demo) (*demoPeers, error) {
	// Not ended by the interrupt itself: the gateways may still be delivering then.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	p := &demoPeers{
		objects: make(chan dicom.StoredObject, backlog), orders: make(chan arrived, backlog), results: make(chan arrived, backlog),
		cancel: cancel, archiveTarget: d.pacs.target,
	}
	if err := p.start(ctx, d); err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

func (p *demoPeers) start(ctx context.Context, d *demo) error {
	log := slog.New(slog.DiscardHandler)
	if d.pacs.target == "" {
		dir := filepath.Join(d.dir, "archive")
		if err := os.Mkdir(dir, 0o700); err != nil {
			return fmt.Errorf("make the archive's folder: %w", err)
		}
		archive, err := dicom.NewArchive(dicom.ArchiveConfig{Dir: dir, AETitle: d.ae(), Log: log, OnStored: func(o dicom.StoredObject) { p.objects <- o }})
		if err != nil {
			return err
		}
		p.close = append(p.close, archive.Close)
		if p.archiveTarget, err = p.serve(ctx, "archive", archive, log); err != nil {
			return err
		}
	}
	for _, s := range []struct {
		name   string
		target *string
		into   chan arrived
	}{{"his", &p.hisTarget, p.orders}, {"practice", &p.practiceTarget, p.results}} {
		in, err := hl7.NewInbox(hl7.InboxConfig{Dir: filepath.Join(d.dir, s.name), Log: log, OnMessage: func(m hl7.Message) {
			s.into <- arrived{Size: len(m.Raw), SHA256: sha256.Sum256(m.Raw)}
		}})
		if err != nil {
			return err
		}
		if *s.target, err = p.serve(ctx, s.name, in, log); err != nil {
			return err
		}
	}
	return nil
}

func (p *demoPeers) serve(ctx context.Context, name string, h proxy.Handler, log *slog.Logger) (string, error) {
	var network lan.Network
	l, err := network.Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", "0"))
	if err != nil {
		return "", err
	}
	s := proxy.NewServer(proxy.ServerConfig{Name: name, Listener: l, Handler: h, Log: log})
	p.servers.Go(func() error { return s.Serve(ctx) })
	return l.Addr().String(), nil
}

func (p *demoPeers) stop() {
	p.cancel()
	_ = p.servers.Wait() // they end with the demo; nothing is left to tell
	for _, c := range p.close {
		_ = c()
	}
}
