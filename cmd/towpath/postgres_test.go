package main

import (
	"context"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/provisioning/adminapi"
	"github.com/towpath/towpath/provisioning/store/pgtest"
)

// TestCoordinatorOnPostgreSQL makes and runs a coordinator as an operator would, twice, on a PostgreSQL database.
func TestCoordinatorOnPostgreSQL(t *testing.T) {
	url := pgtest.Start(t)
	dir := filepath.Join(t.TempDir(), "co")
	httpPort, err := freePort("tcp", 0)
	if err != nil {
		t.Fatal(err)
	}
	hubPort, err := freePort("udp", httpPort)
	if err != nil {
		t.Fatal(err)
	}
	if code := run([]string{
		"towpath", "coordinator", "init", "--dir", dir, "--host", "127.0.0.1", "--bind", "127.0.0.1", "--postgres", url,
		"--http-port", strconv.Itoa(int(httpPort)), "--hub-port", strconv.Itoa(int(hubPort)),
	}); code != 0 {
		t.Fatalf("init ended with %d", code)
	}
	for round, want := range []string{"", "north"} {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- serveCoordinator(ctx, dir, slog.New(slog.DiscardHandler)) }()
		client := adminapi.NewSocketClient(filepath.Join(dir, adminSocket))
		var names []string
		for deadline := time.Now().Add(30 * time.Second); ; {
			sites, err := client.Sites(ctx)
			if err == nil {
				for _, s := range sites {
					names = append(names, s.Name)
				}
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("the coordinator does not come up: %v", err)
			}
			time.Sleep(50 * time.Millisecond)
		}
		if got := strings.Join(names, ","); got != want {
			t.Errorf("round %d: sites %q, want %q", round, got, want)
		}
		if round == 0 {
			if _, err := client.CreateSite(ctx, adminapi.NewSite{Name: "north", Kind: "clinic"}); err != nil {
				t.Error(err)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("round %d ended with %v", round, err)
		}
	}
}
