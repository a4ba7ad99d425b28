package crashtest

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/gateway/localapi"
	"github.com/towpath/towpath/gateway/receipts"
	"github.com/towpath/towpath/proxy/transfer"
)

// Limits of a run of whole programs, whose pauses are those of the product: an archive that broke off is asked after ten seconds, a tunnel whose
// other end has died is noticed after fifteen.
const (
	wholeGrace    = 45 * time.Second
	wholePatience = 150 * time.Second
)

// wholeRun is one run of whole programs.
type wholeRun struct {
	*plant
	seed     uint64
	dir      string
	r        *rand.Rand
	programs []*program // coordinator, center, clinic
	modality *modality
	practice *practice
	began    time.Time
	deaths   int // of the boxes: each may have lost an answer of the HIS

	mu     sync.Mutex
	trace  []string
	faults map[string]int
	struck map[string]int
	again  bool
}

func (x *wholeRun) note(format string, a ...any) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.trace = append(x.trace, fmt.Sprintf("%6d ms  ", time.Since(x.began).Milliseconds())+fmt.Sprintf(format, a...))
}

func (x *wholeRun) fault(name string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.faults[name]++
}

// playWhole runs one seed with the programs of a plant.
func playWhole(p *plant, seed uint64, dir string) (res result, trace []string, err error) {
	x := &wholeRun{
		plant: p, seed: seed, dir: dir, r: rand.New(rand.NewPCG(seed, 0x3a01)), faults: map[string]int{}, struck: map[string]int{}, began: time.Now(),
	}
	defer func() {
		x.end()
		res.faults, res.struck, res.restarted, res.took, trace = x.faults, x.struck, x.again, time.Since(x.began), x.trace
	}()
	if err = x.open(); err != nil {
		return
	}
	x.modality.start()
	x.practice.start()
	for range 2 + x.r.IntN(4) {
		if err = x.trouble(); err != nil {
			return
		}
		x.pause(time.Duration(50+x.r.IntN(700)) * time.Millisecond)
		if x.r.IntN(3) > 0 {
			if err = x.revive(); err != nil {
				return
			}
		}
	}
	if err = x.recover(); err == nil {
		err = x.judge(&res)
	}
	if err != nil {
		x.portrait()
	}
	res.objects, res.sends = len(x.modality.objects), x.modality.sent
	res.messages = len(x.practice.messages)
	return
}

func (x *wholeRun) pause(d time.Duration) { <-time.After(d) }

func (x *wholeRun) open() error {
	if err := copyTree(x.dir, filepath.Join(x.plant.dir, "template")); err != nil {
		return fmt.Errorf("copy the state of the programs: %w", err)
	}
	x.pacs.reset()
	x.his.reset()
	x.toHub.be(0, 0)
	x.toCenter.be(0, 0)
	argv := x.argv(x.dir)
	for _, name := range []string{x.coordinator, x.home, x.away} {
		p := &program{name: name, argv: argv[name], dir: filepath.Join(x.dir, name), make: x.make}
		if err := p.start(nil); err != nil {
			return err
		}
		x.programs = append(x.programs, p)
	}
	own := rand.New(rand.NewPCG(x.seed, 0x5eed))
	at := func(port int) func() string {
		return func() string { return net.JoinHostPort(x.clinicLAN.String(), strconv.Itoa(port)) }
	}
	x.modality = &modality{
		objects: makeObjects(x.seed, x.r), address: at(dicomPort),
		onAck:  func(uid string) { x.note("success for %s", uid[strings.LastIndexByte(uid, '.')+1:]) },
		pauses: func() time.Duration { return 100 * time.Millisecond },
		dir:    x.dir,
	}
	if x.seed%4 == 0 {
		if path, err := exec.LookPath("storescu"); err == nil {
			x.note("the modality is dcmtk's")
			x.modality.foreign = path
		}
	}
	x.practice = &practice{
		messages: makeMessages(x.seed, x.r), address: at(hl7Port),
		onAck:  func(id string) { x.note("AA for %s", id) },
		pauses: func() time.Duration { return time.Duration(20+own.IntN(400)) * time.Millisecond },
	}
	return nil
}

// copyTree copies folders and files with their modes: nobody else may read keys.
func copyTree(to, from string) error {
	return filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == from {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		info, err := e.Info()
		switch {
		case err != nil:
			return err
		case e.IsDir():
			return os.Mkdir(filepath.Join(to, rel), info.Mode().Perm())
		case !e.Type().IsRegular():
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), b, info.Mode().Perm())
	})
}

// trouble does the next thing that goes wrong.
func (x *wholeRun) trouble() error {
	p := x.programs[x.r.IntN(len(x.programs))]
	n, wait := x.r.IntN(150), time.Duration(100+x.r.IntN(1500))*time.Millisecond
	op := []string{"any", "fsync", "write", "rename", "unlink"}[x.r.IntN(5)]
	switch x.r.IntN(12) {
	case 0, 1:
		x.fault("kill -9")
		x.note("%s: kill -9", p.name)
		p.now.kill()
	case 2:
		x.fault("kill -9 at a disk operation")
		x.note("%s: will die at %s number %d", p.name, op, n)
		p.now.disk.arm(&trouble{op: op, after: n, times: 1})
	case 3, 4:
		x.fault("power cut")
		return x.powerCut(p, op, n)
	case 5:
		x.fault("EIO")
		times := 1 + x.r.IntN(4)
		x.note("%s: EIO %d times after %s number %d", p.name, times, op, n)
		p.now.disk.arm(&trouble{op: op, after: n, times: times, errno: unix.EIO})
	case 6:
		x.fault("ENOSPC")
		times := 1 + x.r.IntN(20)
		x.note("%s: ENOSPC %d times after write number %d", p.name, times, n)
		p.now.disk.arm(&trouble{op: "write", after: n, times: times, errno: unix.ENOSPC})
	case 7, 8:
		x.cutLine(wait)
	case 9:
		x.fault("program stands still")
		x.note("%s: stands still for %v", p.name, wait)
		p.now.freeze(wait)
	case 10:
		what := 1 + x.r.IntN(mishapEnd-1)
		x.fault("archive has a mishap")
		x.note("archive: mishap %d", what)
		x.pacs.plan([]int{what})
	case 11:
		mishaps := []int{1 + x.r.IntN(hisMishapEnd-1)}
		x.fault("HIS has a mishap")
		x.note("HIS: mishaps %v", mishaps)
		x.his.plan(mishaps)
	}
	return nil
}

// cutLine has the internet in front of the center or of the coordinator do what it sometimes does.
func (x *wholeRun) cutLine(wait time.Duration) {
	name, d := "center", x.toCenter
	if x.r.IntN(4) == 0 {
		name, d = "coordinator", x.toHub
	}
	switch x.r.IntN(4) {
	case 0:
		if x.seed%(long/5) == 0 {
			wait += 35 * time.Second // longer than any end waits for the other
			x.fault("outer line silent for more than 35 s")
		} else {
			x.fault("outer line silent")
		}
		d.be(1, 0)
		before := d.carried()
		x.note("line to the %s: silent for %v", name, wait)
		x.pause(wait)
		if d.carried() > before+1 { // one may have been under way
			x.note("line to the %s: it was not", name)
		}
	case 1:
		x.fault("outer line loses a third")
		x.note("line to the %s: loses a third for %v", name, wait)
		d.be(1.0/3, 0)
		x.pause(wait)
	case 2:
		x.fault("outer line late")
		x.note("line to the %s: 200 ms late for %v", name, wait)
		d.be(0, 200*time.Millisecond)
		x.pause(wait)
	case 3:
		x.fault("outer line forgets its callers")
		x.note("line to the %s: forgets its callers", name)
		d.forget()
	}
	d.be(0, 0)
}

// powerCut waits until the program has come to a disk operation, if it does, and takes from its disk what was not synced.
func (x *wholeRun) powerCut(p *program, op string, n int) error {
	p.now.disk.arm(&trouble{op: op, after: n, times: 1})
	select {
	case <-p.now.done:
	case <-time.After(500 * time.Millisecond):
		p.now.kill()
	}
	renames, files, err := p.now.stakes.cut(p.dir, x.r)
	x.struck["rename undone by a power cut"] += renames
	x.struck["file torn by a power cut"] += files
	x.note("%s: power cut: %d renames undone, %d files torn (at %s number %d)", p.name, renames, files, op, n)
	return err
}

// revive starts what is dead, as a service manager does, sometimes only to have it die while it starts.
func (x *wholeRun) revive() error {
	for _, p := range x.programs {
		if !p.now.dead() {
			continue
		}
		var early *trouble
		if x.r.IntN(4) == 0 {
			x.fault("kill -9 at a disk operation of the start")
			n := x.r.IntN(40)
			x.note("%s: will die in its start at disk operation %d", p.name, n)
			early = &trouble{op: "any", after: n, times: 1}
		}
		if err := x.restart(p, early); err != nil {
			return err
		}
	}
	return nil
}

func (x *wholeRun) restart(p *program, early *trouble) error {
	p.now.kill()
	x.count(p)
	x.note("%s: started", p.name)
	return p.start(early)
}

// count adds up what struck in a life that is over.
func (x *wholeRun) count(p *program) {
	if p.name != x.coordinator {
		x.deaths++
	}
	p.now.stakes.mu.Lock()
	defer p.now.stakes.mu.Unlock()
	for what, n := range p.now.stakes.struck {
		x.struck[what] += n
	}
	clear(p.now.stakes.struck)
}

// recover lets everything be well, and waits until nothing is left to do. In one of four runs it then starts both boxes once more, to see that nothing
// comes back.
func (x *wholeRun) recover() error {
	x.note("all is well from now on")
	x.pacs.plan(nil)
	x.his.plan(nil)
	for _, p := range x.programs {
		p.now.disk.arm(nil)
	}
	if err := x.settle(); err != nil {
		return err
	}
	if x.r.IntN(4) > 0 {
		return nil
	}
	for _, p := range x.programs[1:] {
		if err := x.restart(p, nil); err != nil {
			return err
		}
	}
	return x.settle()
}

func (x *wholeRun) settle() error {
	began := time.Now()
	restarted := false
	for {
		done := x.modality.told() == len(x.modality.objects) && x.practice.told() == len(x.practice.messages)
		var states []string
		for _, p := range x.programs {
			if p.now.dead() { // an operation that was armed before peace came, or it has given up
				if err := x.restart(p, nil); err != nil {
					return err
				}
			}
			if p.name == x.coordinator {
				continue
			}
			state, empty := x.ask(p)
			done, states = done && empty, append(states, p.name+" "+state)
		}
		switch waited := time.Since(began); {
		case done:
			x.note("all is done after %v", waited.Round(time.Millisecond))
			return nil
		case waited > wholePatience:
			return fmt.Errorf("stuck: %d of %d objects and %d of %d messages taken, %s", x.modality.told(), len(x.modality.objects), x.practice.told(),
				len(x.practice.messages), strings.Join(states, ", "))
		case waited > wholeGrace && !restarted:
			restarted, x.again = true, true
			x.note("not done after %v, %s: both boxes are started anew", wholeGrace, strings.Join(states, ", "))
			x.portrait()
			for _, p := range x.programs[1:] {
				if err := x.restart(p, nil); err != nil {
					return err
				}
			}
		}
		x.pause(50 * time.Millisecond)
	}
}

func (x *wholeRun) api(p *program) *localapi.Client {
	return localapi.NewClient(filepath.Join(p.dir, "gateway.sock"))
}

// ask returns what a box has in its queues and whether it hears the coordinator, and whether nothing is left to wait for.
func (x *wholeRun) ask(p *program) (state string, empty bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	s, err := x.api(p).Status(ctx)
	if err != nil {
		return "does not answer", false
	}
	var sum counts
	for _, q := range s.Queues {
		sum.Queued, sum.Carried, sum.Parked = sum.Queued+q.Queued, sum.Carried+q.Carried, sum.Parked+q.Parked
		sum.Error = strings.TrimSpace(sum.Error + " " + q.LastError + " " + q.ParkedError)
	}
	sum.Quarantined = s.Spool.Quarantined
	hears := s.Coordinator.Connected && s.Coordinator.Applied >= s.Coordinator.Generation
	return fmt.Sprintf("%+v, hears the coordinator: %v", sum, hears), sum.empty() && hears
}

// portrait has both boxes say what they wait for, which ends them, and keeps the ends of their logs.
func (x *wholeRun) portrait() {
	for _, p := range x.programs[min(1, len(x.programs)):] {
		if !p.now.dead() {
			_ = p.now.cmd.Process.Signal(syscall.SIGQUIT)
			select {
			case <-p.now.done:
			case <-time.After(5 * time.Second):
			}
		}
		b := p.said()
		x.note("%s said last:\n%s", p.name, b[max(0, len(b)-4*portraitLog):])
	}
}

// judge compares what modality and practice were told with what archive and HIS have.
func (x *wholeRun) judge(res *result) error {
	var errs []error
	signed, broken, err := x.receipts()
	if err != nil || broken != "" {
		errs = append(errs, fmt.Errorf("the clinic's receipts do not verify: %s: %w", broken, err))
	}
	for _, o := range x.modality.objects {
		copies := x.pacs.copies(o.uid)
		switch {
		case len(copies) == 0:
			errs = append(errs, fmt.Errorf("LOST: %s", o.uid))
		case len(copies) > 1:
			errs = append(errs, fmt.Errorf("TWICE: %s is at the archive %d times", o.uid, len(copies)))
		case copies[0] != o.sum:
			errs = append(errs, fmt.Errorf("ALTERED: %s", o.uid))
		}
		if !signed[hex.EncodeToString(o.sum[:])] {
			errs = append(errs, fmt.Errorf("NO RECEIPT: %s", o.uid))
		}
	}
	// The line between the boxes may have lost an answer, too: then the center's box knows it, and asks nobody.
	again, wrong := x.his.judge(x.practice.messages, x.deaths+x.his.happened())
	res.again = again
	errs = append(errs, wrong...)
	for _, p := range x.programs {
		p.now.kill()
		x.count(p)
		for _, secret := range []string{"CRASHCANARY", "1.2.826.0.1.3680043.10.1.", controlPrefix, "panic"} {
			if i := bytes.Index(p.said(), []byte(secret)); i >= 0 {
				b := p.said()
				errs = append(errs, fmt.Errorf("%s: the log has %q: %s", p.name, secret, b[max(0, i-200):min(len(b), i+200)]))
			}
		}
	}
	return errors.Join(errs...)
}

// receipts returns the digests of objects for which the clinic keeps the center's signed word, and where the chain is broken.
func (x *wholeRun) receipts() (signed map[string]bool, broken string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	signed = map[string]bool{}
	sum, err := x.api(x.programs[2]).Receipts(ctx, func(e receipts.Entry) error {
		r, err := transfer.ParseReceipt(e.Signed)
		if err == nil && r.Kind == transfer.Accepted && hex.EncodeToString(r.SHA256[:]) == e.SHA256 {
			signed[e.SHA256] = true
		}
		return nil
	})
	return signed, sum.Broken, err
}

func (x *wholeRun) end() {
	if x.modality != nil && x.modality.cancel != nil {
		x.modality.cancel()
		<-x.modality.done
	}
	if x.practice != nil {
		x.practice.end()
	}
	for _, p := range x.programs {
		p.now.kill()
	}
}
