package wgo

import (
	"context"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"time"

	"golang.zx2c4.com/wireguard/device"
)

// repeatAfter is how long an equal warning stays quiet: wireguard-go repeats some of them every five seconds for each peer.
const repeatAfter = time.Minute

// maxRemembered bounds the memory for repeated warnings.
const maxRemembered = 256

// keyPattern finds anything that could be a whole key, in both text forms, should the library ever quote its input in an error.
var keyPattern = regexp.MustCompile(`[0-9A-Fa-f]{64}|[0-9A-Za-z+/]{43}=`)

// Logger bridges wireguard-go's log to slog: its errors become warnings, because the device carries on, and the rest is debug.
// A nil log discards all.
func Logger(log *slog.Logger) *device.Logger {
	if log == nil {
		return &device.Logger{Verbosef: device.DiscardLogf, Errorf: device.DiscardLogf}
	}
	b := &bridge{log: log, seen: map[string]time.Time{}}
	return &device.Logger{Verbosef: b.verbosef, Errorf: b.errorf}
}

type bridge struct {
	log *slog.Logger

	mu   sync.Mutex
	seen map[string]time.Time
}

func (b *bridge) verbosef(format string, args ...any) {
	if b.log.Enabled(context.Background(), slog.LevelDebug) {
		b.emit(slog.LevelDebug, fmt.Sprintf(format, args...))
	}
}

func (b *bridge) errorf(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	level := slog.LevelWarn
	// A peer without a configured endpoint is one that calls us: nothing is wrong until it does.
	if strings.Contains(text, "no known endpoint for peer") || b.repeated(text) {
		level = slog.LevelDebug
	}
	b.emit(level, text)
}

func (b *bridge) emit(level slog.Level, text string) {
	b.log.Log(context.Background(), level, "wireguard", "detail", keyPattern.ReplaceAllString(text, "(key)"))
}

func (b *bridge) repeated(text string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if t, ok := b.seen[text]; ok && now.Sub(t) < repeatAfter {
		return true
	}
	if len(b.seen) >= maxRemembered {
		clear(b.seen)
	}
	b.seen[text] = now
	return false
}
