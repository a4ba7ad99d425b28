package wgo_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/tunnel/internal/wgo"
	"github.com/towpath/towpath/tunnel/wgkey"
)

func TestLogger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		lines := func() (l []string) {
			l = strings.Split(strings.TrimSpace(b.String()), "\n")
			b.Reset()
			return l
		}
		log := wgo.Logger(slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug})))
		log.Verbosef("%v - %s", "peer(abcd…wxyz)", "Starting")
		if l := lines(); len(l) != 1 || !strings.Contains(l[0], "level=DEBUG") || !strings.Contains(l[0], "Starting") {
			t.Errorf("verbose: %q", l)
		}
		log.Errorf("failed: %v", errors.New("network is unreachable"))
		log.Errorf("failed: %v", errors.New("network is unreachable"))
		time.Sleep(time.Minute)
		log.Errorf("failed: %v", errors.New("network is unreachable"))
		if l := lines(); len(l) != 3 || !strings.Contains(l[0], "level=WARN") || !strings.Contains(l[1], "level=DEBUG") ||
			!strings.Contains(l[2], "level=WARN") {
			t.Errorf("errors: %q", l)
		}
		log.Errorf("peer - Failed to send handshake initiation: %v", errors.New("no known endpoint for peer"))
		if l := lines(); !strings.Contains(l[0], "level=DEBUG") {
			t.Errorf("a peer that calls us: %q", l)
		}
		k, err := wgkey.NewPrivateKey()
		if err != nil {
			t.Fatal(err)
		}
		log.Errorf("failed to parse line %q and %q", "private_key "+k.RevealHex(), k.RevealText())
		log.Verbosef("failed to parse line %q and %q", "private_key "+k.RevealHex(), k.RevealText())
		if l := strings.Join(lines(), ""); strings.Contains(l, k.RevealHex()[:20]) || strings.Contains(l, k.RevealText()[:20]) {
			t.Errorf("a key is logged: %q", l)
		}
	})
	quiet := wgo.Logger(nil)
	quiet.Errorf("nothing %d", 1)
	quiet.Verbosef("nothing %d", 2)
}
