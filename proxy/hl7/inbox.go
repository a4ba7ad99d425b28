package hl7

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/towpath/towpath/proxy"
)

// DefaultInboxBytes bounds what an Inbox keeps.
const DefaultInboxBytes = 1 << 30

// InboxConfig describes an Inbox.
type InboxConfig struct {
	// Dir is made if need be. It must be used by one Inbox at a time.
	Dir string
	// MaxBytes bounds the bytes of all messages in Dir; then messages are refused. Zero means DefaultInboxBytes.
	MaxBytes int64
	Limits   Limits
	// Log may be nil.
	Log *slog.Logger
	// OnMessage is called after a message was stored and before it is answered. It may be nil.
	OnMessage func(Message)
}

// Message is one that an Inbox has stored.
type Message struct {
	Header Header
	Raw    []byte
	// Path is the file.
	Path string
}

// Inbox is a proxy.Handler that stores each message as a file, synced, and then answers. It stands for a practice or archive system in
// tests and demonstrations, and lets a technician see what a device really sends. It is safe for concurrent use.
type Inbox struct {
	cfg InboxConfig
	log *slog.Logger

	mu     sync.Mutex
	bytes  int64
	number int
}

var _ proxy.Handler = (*Inbox)(nil)

// NewInbox prepares the directory.
func NewInbox(cfg InboxConfig) (*Inbox, error) {
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = DefaultInboxBytes
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.Limits = cfg.Limits.withDefaults()
	b := &Inbox{cfg: cfg, log: cfg.Log.With("subsystem", "hl7")}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the inbox: %w", err)
	}
	err := filepath.WalkDir(cfg.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err //nolint:wrapcheck // below
		}
		if strings.HasSuffix(path, ".tmp") {
			return os.Remove(path) //nolint:wrapcheck // below
		}
		b.bytes += info.Size()
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look into the inbox: %w", err)
	}
	return b, nil
}

// Serve takes messages until the sender closes the connection.
func (b *Inbox) Serve(ctx context.Context, c net.Conn) proxy.Result {
	res := proxy.Result{Outcome: proxy.OutcomeDone}
	l := newLink(c, b.cfg.Limits)
	defer l.interrupt(ctx)()
	for {
		msg, err := l.read(ctx)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, context.Canceled), errors.Is(err, errIdle):
			return res
		case err != nil:
			res.Outcome, res.Detail = proxy.OutcomeAborted, err.Error()
			return res
		case len(msg) == 0:
			continue
		}
		h, err := ParseHeader(msg)
		if err != nil {
			res.Outcome, res.Detail = proxy.OutcomeMalformed, err.Error()
			return res
		}
		res.Calling, res.Called = h.Sender(), h.Receiver()
		if h.isAck() {
			continue
		}
		code, text := AA, "stored"
		if err := b.take(h, msg); err != nil {
			b.log.Error("a message could not be stored", "error", err)
			code, text = AE, "could not be stored; send again later"
			res.Outcome, res.Detail = proxy.OutcomeRefused, "a message could not be stored"
		} else {
			res.Items++
		}
		if code, wanted := h.answer(code); wanted {
			if err := l.write(h.Ack(code, text)); err != nil {
				res.Outcome, res.Detail = proxy.OutcomeAborted, "the sender did not take our answer"
				return res
			}
		}
	}
}

func (b *Inbox) take(h Header, msg []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bytes+int64(len(msg)) > b.cfg.MaxBytes {
		return fmt.Errorf("the inbox holds %d bytes of at most %d; delete what is no longer needed", b.bytes, b.cfg.MaxBytes)
	}
	b.number++
	name := fmt.Sprintf("%s-%06d.hl7", time.Now().UTC().Format("20060102T150405.000000000"), b.number)
	path := filepath.Join(b.cfg.Dir, name)
	if err := writeSynced(path, msg); err != nil {
		return err
	}
	b.bytes += int64(len(msg))
	if b.cfg.OnMessage != nil {
		b.cfg.OnMessage(Message{Header: h, Raw: msg, Path: path})
	}
	return nil
}

// writeSynced writes a file that is whole or not there, also after a power cut.
func writeSynced(path string, content []byte) error {
	temporary := path + ".tmp"
	f, err := os.OpenFile(temporary, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("store a message: %w", err)
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		_ = os.Remove(temporary)
		return fmt.Errorf("store a message: %w", err)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("store a message: %w", err)
	}
	if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
		return fmt.Errorf("store a message: %w", err)
	}
	return nil
}
