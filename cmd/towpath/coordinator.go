package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sync/errgroup"

	"github.com/towpath/towpath/cmd/towpath/internal/box"
	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/gateway/state"
	"github.com/towpath/towpath/provisioning/adminapi"
	"github.com/towpath/towpath/provisioning/coordinator"
	"github.com/towpath/towpath/provisioning/hub"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/store/postgres"
	"github.com/towpath/towpath/provisioning/store/sqlite"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/carrier"
	"github.com/towpath/towpath/tunnel/netstack"
	"github.com/towpath/towpath/tunnel/turn"
)

const (
	defaultDir    = "/var/lib/towpath/coordinator"
	databaseFile  = "towpath.db"
	adminSocket   = "admin.sock"
	centerDir     = "center"
	centerToken   = "token"
	defaultHTTP   = 8080
	defaultHub    = 51820
	defaultCenter = 51821
	// maxPublicConns bounds what strangers can hold open at the enrolment port.
	maxPublicConns = 256
	// localActor is who acts through the coordinator's own socket, in the audit trail.
	localActor = "local"
)

func dirFlag() cli.Flag {
	return &cli.StringFlag{
		Name: "dir", Value: defaultDir, EnvVars: []string{"TOWPATH_DIR"},
		Usage: "the coordinator's `DIRECTORY`: its keys, its database and its socket",
	}
}

func coordinatorCommand() *cli.Command {
	return group("coordinator", "make and run the network's coordinator", coordinatorInitCommand(), coordinatorServeCommand(), coordinatorReachCommand(),
		coordinatorPairKeysCommand(),
		coordinatorUnsignedCommand(), coordinatorSignedCommand(), coordinatorRestoredCommand())
}

func coordinatorInitCommand() *cli.Command {
	return &cli.Command{
		Name: "init", Usage: "make a new network: its keys, its database, its address plan",
		Description: `Boxes reach the coordinator at --host on UDP --hub-port and TCP --http-port. Those whose network lets no UDP out
are carried over TCP, on --https-port or --http-port: give --https-port 443 where it is free. With --with-center NAME the same machine is also
the gateway of the center of that name, on UDP --center-port; "towpath coordinator serve" then runs both.`,
		Flags: []cli.Flag{
			dirFlag(),
			&cli.StringSliceFlag{Name: "host", Required: true, Usage: "`NAME` or address under which boxes reach this machine; may be given several times, best first"},
			&cli.StringFlag{Name: "bind", Usage: "local `ADDRESS` of the enrolment port; all addresses if not given"},
			&cli.UintFlag{Name: "http-port", Value: defaultHTTP, Usage: "TCP `PORT` of enrolment"},
			&cli.UintFlag{Name: "https-port", Usage: "TCP `PORT` of the same in TLS, 443 if possible: boxes on networks without UDP are carried there; none if not given"},
			&cli.UintFlag{Name: "hub-port", Value: defaultHub, Usage: "UDP `PORT` of the coordinator's own WireGuard endpoint"},
			&cli.BoolFlag{Name: "no-relay", Usage: "do not carry sealed packets between boxes that cannot reach each other"},
			&cli.StringSliceFlag{Name: "pool", Usage: "address `PREFIX` of the plan; 10.201.0.0/16 if not given; may be given several times"},
			&cli.BoolFlag{Name: "force-pool", Usage: "take pools that are a bad idea, such as 100.64.0.0/10"},
			&cli.StringFlag{
				Name: "postgres", EnvVars: []string{"TOWPATH_POSTGRES"},
				Usage: "`URL` of an empty PostgreSQL database to use instead of a file; needed only when several coordinators must share it",
			},
			&cli.StringFlag{
				Name:  "offline-key",
				Usage: "write the network's key to `FILE` instead of --dir: every box then needs a signature by \"towpath sign\", where that file is",
			},
			&cli.StringFlag{Name: "with-center", Usage: "`NAME` of a center whose gateway runs on this machine too"},
			&cli.UintFlag{Name: "center-port", Value: defaultCenter, Usage: "UDP `PORT` of that gateway"},
			&cli.StringFlag{Name: "center-lan", Usage: "local `ADDRESS` where the center's own systems connect; all addresses if not given"},
			&cli.StringFlag{Name: "center-backend", Value: box.Auto, Usage: "tunnel `BACKEND` of that gateway: auto, kernel, userspace or netstack"},
		},
		Action: func(c *cli.Context) error {
			if _, err := args(c); err != nil {
				return err
			}
			cfg, opt, err := initOptions(c)
			if err != nil {
				return err
			}
			dir := c.String("dir")
			if err := initCoordinator(c.Context, dir, c.String("offline-key"), cfg, opt); err != nil {
				if errors.Is(err, os.ErrPermission) {
					return ui.Hint(err, "run as root, or choose another --dir")
				}
				return err
			}
			if file := c.String("offline-key"); file != "" {
				fmt.Fprintf(c.App.Writer, "The network's key is in %s, and only there. Take it off this machine and keep a copy: without it no box can be added.\n", file)
			}
			fmt.Fprintf(c.App.Writer, "The network is ready in %s. Back this directory up: its keys cannot be made again.\nStart it now: towpath coordinator serve --dir %s\n", dir, dir)
			return nil
		},
	}
}

func initOptions(c *cli.Context) (coordinatorConfig, coordinator.InitOptions, error) {
	var opt coordinator.InitOptions
	for _, name := range []string{"http-port", "hub-port", "center-port"} {
		if p := c.Uint(name); p == 0 || p > 65535 {
			return coordinatorConfig{}, opt, ui.Usagef("ports are 1 to 65535", "--%s %d is no port", name, p)
		}
	}
	cfg := coordinatorConfig{
		Listen:  net.JoinHostPort(c.String("bind"), strconv.Itoa(int(c.Uint("http-port")))),
		HubPort: uint16(c.Uint("hub-port")), Database: c.String("postgres"), NoRelay: c.Bool("no-relay"),
	}
	httpsPort := c.Uint("https-port")
	if httpsPort > 65535 || httpsPort == c.Uint("http-port") {
		return cfg, opt, ui.Usagef("ports are 1 to 65535, and --http-port has its own", "--https-port %d is no free port", httpsPort)
	}
	if httpsPort != 0 {
		cfg.ListenTLS = net.JoinHostPort(c.String("bind"), strconv.Itoa(int(httpsPort)))
	}
	opt.HubEndpoints, opt.URLs = reach(c.StringSlice("host"), cfg.HubPort, uint16(c.Uint("http-port")), uint16(httpsPort))
	for _, s := range c.StringSlice("pool") {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return cfg, opt, ui.Usagef("such as 10.201.0.0/16", "--pool %q is no prefix", s)
		}
		opt.Pools = append(opt.Pools, p)
	}
	opt.ForcePool = c.Bool("force-pool")
	if name := c.String("with-center"); name != "" {
		port := uint16(c.Uint("center-port"))
		cfg.Center = &centerConfig{
			Site: name, Port: port, Backend: c.String("center-backend"),
			Endpoint: net.JoinHostPort(c.StringSlice("host")[0], strconv.Itoa(int(port))),
		}
		if s := c.String("center-lan"); s != "" {
			a, err := netip.ParseAddr(s)
			if err != nil {
				return cfg, opt, ui.Usagef("give an address of this machine", "--center-lan %q is no IP address", s)
			}
			cfg.Center.LAN = a
		}
	}
	return cfg, opt, nil
}

// reach is how boxes find a coordinator under its names.
// httpsPort is 0 if there is none.
func reach(hosts []string, hubPort, httpPort, httpsPort uint16) (endpoints, urls []string) {
	for _, h := range hosts {
		endpoints = append(endpoints, net.JoinHostPort(h, strconv.Itoa(int(hubPort))))
		urls = append(urls, "http://"+net.JoinHostPort(h, strconv.Itoa(int(httpPort))))
	}
	for _, h := range hosts {
		if httpsPort != 0 && len(urls) < wire.MaxTokenURLs {
			urls = append(urls, "https://"+net.JoinHostPort(h, strconv.Itoa(int(httpsPort))))
		}
	}
	return endpoints, urls
}

func coordinatorReachCommand() *cli.Command {
	return &cli.Command{
		Name: "reach", Usage: "change the names and addresses under which boxes find the coordinator",
		Description: `Boxes hear of it with their next plan, so the old address must work until all of them have it ("towpath node list"). Tokens that
were made before keep the old address.`,
		Flags: []cli.Flag{
			dirFlag(),
			&cli.StringSliceFlag{Name: "host", Required: true, Usage: "`NAME` or address, best first; replaces all there were"},
		},
		Action: func(c *cli.Context) error {
			if _, err := args(c); err != nil {
				return err
			}
			cfg, err := loadCoordinatorConfig(c.String("dir"))
			if err != nil {
				return err
			}
			httpPort, err := portOf(cfg.Listen)
			if err != nil {
				return err
			}
			var httpsPort uint16
			if cfg.ListenTLS != "" {
				if httpsPort, err = portOf(cfg.ListenTLS); err != nil {
					return err
				}
			}
			endpoints, urls := reach(c.StringSlice("host"), cfg.HubPort, httpPort, httpsPort)
			return offline(c, adminClient(c).SetReach(c.Context, adminapi.Reach{HubEndpoints: endpoints, URLs: urls}))
		},
	}
}

// initCoordinator makes a network in dir. With a center it also makes the center's site and leaves a token where serve redeems it,
// through the same door as every other box.
func initCoordinator(ctx context.Context, dir, offlineKey string, cfg coordinatorConfig, opt coordinator.InitOptions) error {
	keys, err := createKeys(dir, offlineKey)
	if err != nil {
		return err
	}
	st, err := cfg.openStore(ctx, dir, slog.New(slog.DiscardHandler))
	if err != nil {
		return fmt.Errorf("make the database: %w", err)
	}
	defer func() { _ = st.Close() }()
	if err := coordinator.Init(ctx, st, opt); err != nil {
		return err
	}
	if err := cfg.save(dir); err != nil {
		return err
	}
	if cfg.Center == nil {
		return nil
	}
	co, err := coordinator.New(st, keys, coordinator.Options{})
	if err != nil {
		return err
	}
	if _, err := co.CreateSite(ctx, localActor, coordinator.NewSite{Name: cfg.Center.Site, Kind: wire.Center, Endpoint: cfg.Center.Endpoint}); err != nil {
		return err
	}
	_, tok, err := co.CreateToken(ctx, localActor, coordinator.NewToken{Site: cfg.Center.Site})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, centerDir), 0o700); err != nil {
		return fmt.Errorf("make the center's directory: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, centerDir, centerToken), []byte(tok.Reveal()), 0o600); err != nil {
		return fmt.Errorf("leave the center's token: %w", err)
	}
	return nil
}

// createKeys makes a network's keys; the network's own goes to offlineKey unless that is empty.
func createKeys(dir, offlineKey string) (*coordinator.Keys, error) {
	if offlineKey == "" {
		return coordinator.CreateKeys(dir)
	}
	return coordinator.CreateOfflineKeys(dir, offlineKey)
}

func (c coordinatorConfig) openStore(ctx context.Context, dir string, log *slog.Logger) (store.Store, error) {
	if c.Database != "" {
		st, err := postgres.Open(ctx, c.Database, postgres.Options{Log: log})
		if err != nil {
			return nil, err
		}
		return st, nil
	}
	st, err := sqlite.Open(ctx, filepath.Join(dir, databaseFile), sqlite.Options{Log: log})
	if err != nil {
		return nil, err
	}
	return st, nil
}

func coordinatorServeCommand() *cli.Command {
	return &cli.Command{
		Name: "serve", Usage: "run the coordinator, until it is stopped",
		Flags: append([]cli.Flag{dirFlag()}, logFlags()...),
		Action: func(c *cli.Context) error {
			if _, err := args(c); err != nil {
				return err
			}
			return serveCoordinator(c.Context, c.String("dir"), newLogger(c))
		},
	}
}

// serveCoordinator wires the coordinator role: store, use cases, hub, the two HTTP servers and, with a center, its gateway.
func serveCoordinator(ctx context.Context, dir string, log *slog.Logger) error {
	cfg, err := loadCoordinatorConfig(dir)
	if err != nil {
		return err
	}
	keys, err := coordinator.LoadKeys(dir)
	if err != nil {
		return err
	}
	st, err := cfg.openStore(ctx, dir, log)
	if err != nil {
		return fmt.Errorf("open the database: %w", err)
	}
	defer func() { _ = st.Close() }()
	co, err := coordinator.New(st, keys, coordinator.Options{Log: log, Tool: versionText(), Relay: !cfg.NoRelay})
	if err != nil {
		return err
	}
	public, err := listenTCP(ctx, cfg.Listen, "--http-port of \"towpath coordinator init\"")
	if err != nil {
		return err
	}
	certificate, err := publicTLS()
	if err != nil {
		_ = public.Close()
		return err
	}
	secure, err := listenTLS(ctx, cfg)
	if err != nil {
		_ = public.Close()
		return err
	}
	admin, err := listenSocket(ctx, filepath.Join(dir, adminSocket))
	if err != nil {
		_ = public.Close()
		if secure != nil {
			_ = secure.Close()
		}
		return err
	}
	rel, carried := hubRelay(dir, cfg, log), carrier.NewServer(carrier.Limits{}, log)
	defer carried.Close()
	stack, err := netstack.New(netstack.Options{Log: log.With("role", "hub"), Name: "hub", Bind: rel.Bind(carried.Bind(nil)), FwMark: tunnel.MarkOuter})
	if err != nil {
		return fmt.Errorf("make the hub's tunnel: %w", err)
	}
	dev := turn.NewStacked(stack, turn.Options{Log: log.With("role", "hub")})
	defer func() { _ = dev.Close() }()
	h := hub.New(hub.Config{Device: dev, Stack: dev, Coordinator: co, Port: cfg.HubPort, Relay: admitTo(rel, keys.HubPublicKey()), Carried: carried.Sessions, Log: log})

	tasks, ctx := errgroup.WithContext(ctx)
	tasks.Go(func() error { return h.Run(ctx) })
	tasks.Go(func() error { return rel.Run(ctx, dev) })
	tasks.Go(func() error {
		tend(ctx, tendEvery, co.Tend, log)
		return nil
	})
	door := publicDoor(co, carried)
	tasks.Go(func() error { return servePublic(ctx, public, door, nil) })
	if secure != nil {
		tasks.Go(func() error { return servePublic(ctx, secure, door, certificate) })
	}
	tasks.Go(func() error {
		return serveHTTP(ctx, admin, adminapi.Handler(co, func(*http.Request) string { return localActor }, log))
	})
	if cfg.Center != nil {
		tasks.Go(func() error {
			select {
			case <-h.Ready():
			case <-ctx.Done():
				return nil
			}
			return serveCenter(ctx, dir, *cfg.Center, log)
		})
	}
	log.Info("coordinator is up", "enrolment", public.Addr(), "hub_port", cfg.HubPort, "network", keys.NetworkID())
	if err := tasks.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// serveCenter runs the center's gateway in this process, and enrolls it first if it is new.
func serveCenter(ctx context.Context, dir string, cfg centerConfig, log *slog.Logger) error {
	sd, err := openKeyed(filepath.Join(dir, centerDir))
	if err != nil {
		return err
	}
	defer func() { _ = sd.Close() }()
	if _, err := sd.Identity(); errors.Is(err, state.ErrNotEnrolled) {
		text, err := os.ReadFile(sd.Path(centerToken))
		if err != nil {
			return ui.Hint(fmt.Errorf("read the center's token: %w", err),
				"make one with \"towpath token new --site %s\" and write it to %s", cfg.Site, sd.Path(centerToken))
		}
		if _, err := enroll(ctx, sd, string(text), enrollOptions{}); err != nil {
			return fmt.Errorf("enroll the center's gateway: %w", err)
		}
		if err := os.Remove(sd.Path(centerToken)); err != nil {
			return fmt.Errorf("remove the used token: %w", err)
		}
	}
	return runGateway(ctx, sd, gatewayOptions{
		LAN: cfg.LAN, Port: cfg.Port, Backend: cfg.Backend, Interface: box.Interface, LANNets: cfg.LANNets, NoFirewall: cfg.NoFirewall, NoTransfer: cfg.NoTransfer,
	}, log)
}

func listenTCP(ctx context.Context, addr, setting string) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, ui.Hint(fmt.Errorf("TCP %s is in use by another program", addr), "stop that program, or choose another %s", setting)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	return l, nil
}

// listenSocket opens the admin socket. The database's lock says that no other coordinator of this directory lives.
func listenSocket(ctx context.Context, path string) (net.Listener, error) {
	var d net.Dialer
	if c, err := d.DialContext(ctx, "unix", path); err == nil {
		_ = c.Close()
		return nil, ui.Hint(fmt.Errorf("a coordinator runs in %s already", filepath.Dir(path)), "stop it first")
	}
	_ = os.Remove(path)
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("open the admin socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("protect the admin socket: %w", err)
	}
	return l, nil
}

// httpGrace is how long requests in flight may take at shutdown.
const httpGrace = 3 * time.Second

// headerTimeout is how long the head of a request may take.
const headerTimeout = 10 * time.Second

func serveHTTP(ctx context.Context, l net.Listener, h http.Handler) error {
	return serve(ctx, l, &http.Server{Handler: h, ReadHeaderTimeout: headerTimeout})
}

// serve adds the time limits, and serves until ctx ends.
func serve(ctx context.Context, l net.Listener, srv *http.Server) error {
	srv.ReadTimeout, srv.IdleTimeout, srv.MaxHeaderBytes = time.Minute, 2*time.Minute, 16<<10
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), httpGrace)
		defer cancel()
		if srv.Shutdown(grace) != nil {
			_ = srv.Close()
		}
	})
	err := srv.Serve(l)
	if !stop() {
		<-stopped
	}
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve HTTP at %s: %w", l.Addr(), err)
	}
	return nil
}

// adminClient talks to the coordinator of --dir.
func adminClient(c *cli.Context) *adminapi.Client {
	return adminapi.NewSocketClient(filepath.Join(c.String("dir"), adminSocket))
}
