package standby_test

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/gateway/standby"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/proxytest"
)

// talk serves one connection with an Answerer, and returns the asker's end and the result.
func talk(t *testing.T, from string) (net.Conn, <-chan proxy.Result) {
	t.Helper()
	n := proxytest.NewNetwork()
	ln, err := n.Listen(t.Context(), "tcp", "100.64.0.1:7422")
	if err != nil {
		t.Fatal(err)
	}
	looks := &standby.LAN{}
	looks.Set([]standby.Target{
		{Service: "folder", From: prefixes("100.64.1.1/32", "100.64.2.2/32")}, {Service: "hers", From: prefixes("100.64.2.2/32")},
	})
	c, err := n.From(netip.MustParseAddr(from)).DialContext(t.Context(), "tcp", "100.64.0.1:7422")
	if err != nil {
		t.Fatal(err)
	}
	far, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan proxy.Result, 1)
	go func() { done <- standby.Answerer{LAN: looks}.Serve(t.Context(), far); _ = far.Close() }()
	t.Cleanup(func() { _, _ = c.Close(), ln.Close(); looks.Close() })
	return c, done
}

// Who asks hears only of what it may use.
func TestAnswer(t *testing.T) {
	for from, want := range map[string]string{
		"100.64.1.1": `{"up":["folder"]}`, "100.64.2.2": `{"up":["folder","hers"]}`, "100.64.3.3": `{"up":[]}`,
	} {
		c, done := talk(t, from)
		in := bufio.NewReader(c)
		for range 3 {
			if _, err := io.WriteString(c, "?\n"); err != nil {
				t.Fatal(err)
			}
			if got, err := in.ReadString('\n'); err != nil || got != want+"\n" {
				t.Fatalf("%s hears %q, %v; want %s", from, got, err, want)
			}
		}
		_ = c.Close()
		if r := <-done; r.Outcome != proxy.OutcomeDone || r.Items != 3 {
			t.Errorf("%+v", r)
		}
	}
}

func TestAnswerIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, done := talk(t, "100.64.1.1")
		go func() { _, _ = io.WriteString(c, strings.Repeat("?", 1<<16)) }()
		if r := <-done; r.Outcome != proxy.OutcomeMalformed {
			t.Errorf("a question without an end: %+v", r)
		}
		began := time.Now()
		_, done = talk(t, "100.64.1.1")
		if r := <-done; r.Outcome != proxy.OutcomeDone || time.Since(began) > 20*time.Second {
			t.Errorf("silence: %+v after %v", r, time.Since(began))
		}
	})
}

// A gateway that answers something else, or without end, or not at all, is not healthy, and the next question goes on another connection.
func TestOddAnswers(t *testing.T) {
	for name, odd := range map[string]string{"no JSON": "yes\n", "another kind": "[1]\n", "without end": strings.Repeat("[", 1<<20), "silence": ""} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				n := proxytest.NewNetwork()
				ended := make(chan struct{})
				for _, a := range at {
					ln, err := n.Listen(ctx, "tcp", netip.AddrPortFrom(a, wire.StandbyPort).String())
					if err != nil {
						t.Fatal(err)
					}
					srv := proxy.NewServer(proxy.ServerConfig{Listener: ln, Handler: proxy.HandlerFunc(func(ctx context.Context, c net.Conn) proxy.Result {
						_, _ = io.WriteString(c, odd)
						_, _ = io.Copy(io.Discard, c)
						return proxy.Result{}
					})})
					go func() { _ = srv.Serve(ctx); ended <- struct{}{} }()
				}
				k := standby.NewKeeper(standby.KeeperConfig{
					Network: n, Log: slog.New(slog.DiscardHandler), Apply: func(context.Context) error { t.Error("it moved"); return nil },
					Save: func(map[string]string) error { return nil },
				}, nil)
				k.Follow((&lab{}).group("a", "b"))
				go func() { k.Run(ctx); ended <- struct{}{} }()
				time.Sleep(10 * time.Second)
				for _, x := range k.Status()[0].Gateways {
					if x.Healthy || x.Failures < 2 || x.Problem == "" {
						t.Errorf("%+v", x)
					}
				}
				cancel()
				for range 3 {
					<-ended
				}
			})
		})
	}
}
