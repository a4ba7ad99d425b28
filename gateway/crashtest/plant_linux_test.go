package crashtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/towpath/towpath/gateway/localapi"
)

// Names and ports of a plant.
const (
	dicomPort = 11112
	hl7Port   = 2575
)

// plant is what runs of whole programs need and may share one after the other: the program, ports, archive and HIS, the internet between the
// programs, and the state of a coordinator, a center's box and a clinic's box that have just been enrolled, of which each run gets a copy.
type plant struct {
	bin, dir                string
	pool                    string
	httpPort                uint16
	hub, center             uint16 // where they really listen
	toHub, toCenter         *datagrams
	centerLAN, clinicLAN    netip.Addr
	pacs                    *pacs
	his                     *his
	coordinator, home, away string // directories' names in a run's: coordinator, center, clinic
	make                    func(f func())
}

// buildProgram builds the product, or finds it where nothing can be built: in a virtual machine.
func buildProgram(dir string) (string, error) {
	if _, err := os.Stat(inMachine); err == nil {
		return exec.LookPath("towpath")
	}
	path := filepath.Join(dir, "towpath")
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", path, "github.com/towpath/towpath/cmd/towpath")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the program: %w\n%s", err, out)
	}
	return path, nil
}

// newPlant makes one, number n of those that work at a time.
func newPlant(bin, dir string, n int) (*plant, error) {
	p := &plant{bin: bin, dir: dir, pool: "10.201.0.0/16", coordinator: "coordinator", home: "center", away: "clinic", make: maker()}
	var err error
	if p.pacs, err = newPACS(loopback(n, 12)); err != nil {
		return nil, err
	}
	if p.his, err = newHIS(loopback(n, 12)); err != nil {
		return nil, err
	}
	p.centerLAN, p.clinicLAN = netip.MustParseAddr(loopback(n, 10)), netip.MustParseAddr(loopback(n, 11))
	if err := errors.Join(freeTCP(&p.httpPort), freeUDP(&p.hub), freeUDP(&p.center)); err != nil {
		return nil, err
	}
	here := netip.MustParseAddr("127.0.0.1")
	if p.toHub, err = newDatagrams(netip.AddrPortFrom(here, p.hub)); err != nil {
		return nil, err
	}
	if p.toCenter, err = newDatagrams(netip.AddrPortFrom(here, p.center)); err != nil {
		return nil, err
	}
	return p, p.enroll()
}

// loopback is an address of this process's own: a port that a dead box has left must not be taken by a program of another run, or of another campaign.
func loopback(net, host int) string {
	return netip.AddrFrom4([4]byte{127, byte(1 + os.Getpid()%250), byte(net), byte(host)}).String()
}

func (p *plant) close() {
	p.toHub.close()
	p.toCenter.close()
	p.pacs.leave()
	p.his.close()
}

func freeTCP(port *uint16) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	*port = netip.MustParseAddrPort(l.Addr().String()).Port()
	return l.Close()
}

func freeUDP(port *uint16) error {
	c, err := net.ListenPacket("udp", "0.0.0.0:0")
	if err != nil {
		return err
	}
	*port = netip.MustParseAddrPort(c.LocalAddr().String()).Port()
	return c.Close()
}

// argv are the commands of the three programs with their state in dir.
func (p *plant) argv(dir string) map[string][]string {
	gateway := func(site string, lan netip.Addr, more ...string) []string {
		return append([]string{
			p.bin, "gateway", "--verbose", "--state", filepath.Join(dir, site), "--lan", lan.String(), "--backend", "netstack", "--no-direct",
		}, more...)
	}
	return map[string][]string{
		p.coordinator: {p.bin, "coordinator", "serve", "--verbose", "--dir", filepath.Join(dir, p.coordinator)},
		p.home:        gateway(p.home, p.centerLAN, "--port", strconv.Itoa(int(p.center))),
		p.away:        gateway(p.away, p.clinicLAN),
	}
}

// enroll types what an operator and two technicians would, and stops everything in order when it works.
func (p *plant) enroll() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	template := filepath.Join(p.dir, "template")
	if err := os.Mkdir(template, 0o700); err != nil {
		return err
	}
	dir := filepath.Join(template, p.coordinator)
	operator := func(args ...string) error {
		_, err := p.command(ctx, append(args, "--dir", dir)...)
		return err
	}
	if err := operator("coordinator", "init", "--host", "127.0.0.1", "--bind", "127.0.0.1", "--http-port", strconv.Itoa(int(p.httpPort)),
		"--hub-port", strconv.Itoa(int(p.toHub.address().Port())), "--pool", p.pool, "--no-relay"); err != nil {
		return err
	}
	if err := p.moveHub(filepath.Join(dir, "config.json")); err != nil {
		return err
	}
	argv := p.argv(template)
	var log bytes.Buffer
	var running []*exec.Cmd
	defer func() {
		for _, c := range running {
			_ = c.Process.Signal(os.Interrupt)
			_ = c.Wait()
		}
	}()
	run := func(name string) error {
		cmd := exec.Command(argv[name][0], argv[name][1:]...)
		cmd.Stdout, cmd.Stderr = &log, &log
		var err error
		p.make(func() { err = cmd.Start() })
		if err == nil {
			running = append(running, cmd)
		}
		return err
	}
	if err := run(p.coordinator); err != nil {
		return err
	}
	if err := within(20*time.Second, func() error { return operator("site", "list") }); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"site", "add", p.home, "--kind", "center", "--endpoint", p.toCenter.address().String()},
		{"site", "add", p.away, "--kind", "clinic"},
		{"service", "add", "pacs", "--site", p.home, "--dicom", "--ae-title", calledAE, "--target", p.pacs.address},
		{"service", "add", "orders", "--site", p.home, "--hl7", "--target", p.his.address},
		{"allow", p.away, "pacs", "--port", strconv.Itoa(dicomPort)},
		{"allow", p.away, "orders", "--port", strconv.Itoa(hl7Port)},
	} {
		if err := operator(args...); err != nil {
			return err
		}
	}
	for _, site := range []string{p.home, p.away} {
		out, err := p.command(ctx, "token", "new", "--site", site, "--json", "--dir", dir)
		if err != nil {
			return err
		}
		var token struct {
			Text string `json:"text"`
		}
		if err := json.Unmarshal(out, &token); err != nil {
			return err
		}
		if _, err := p.command(ctx, "enroll", token.Text, "--state", filepath.Join(template, site)); err != nil {
			return err
		}
		if err := run(site); err != nil {
			return err
		}
	}
	for _, site := range []string{p.home, p.away} {
		api := localapi.NewClient(filepath.Join(template, site, "gateway.sock"))
		if err := within(40*time.Second, func() error {
			s, err := api.Status(ctx)
			if err == nil && (!s.Coordinator.Connected || s.Coordinator.Applied < s.Coordinator.Generation || len(s.Services) < 2) {
				err = fmt.Errorf("%s has not applied its plan: %+v", site, s.Coordinator)
			}
			return err
		}); err != nil {
			return fmt.Errorf("%w\n%s", err, log.String())
		}
	}
	return nil
}

// moveHub has the coordinator listen behind toHub, where the boxes believe it to be.
func (p *plant) moveHub(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	front, behind := fmt.Sprintf(`"hub_port": %d`, p.toHub.address().Port()), fmt.Sprintf(`"hub_port": %d`, p.hub)
	if !strings.Contains(string(b), front) {
		return fmt.Errorf("%s has no %s", path, front)
	}
	return os.WriteFile(path, []byte(strings.Replace(string(b), front, behind, 1)), 0o600)
}

func within(limit time.Duration, try func() error) error {
	deadline := time.Now().Add(limit)
	for {
		err := try()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		<-time.After(100 * time.Millisecond)
	}
}

// command runs the program to its end and returns what it printed.
func (p *plant) command(ctx context.Context, args ...string) ([]byte, error) {
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, p.bin, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.Bytes(), fmt.Errorf("towpath %s: %w\n%s", args[0], err, errs.String())
	}
	return out.Bytes(), nil
}
