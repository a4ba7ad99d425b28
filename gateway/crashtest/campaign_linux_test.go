package crashtest

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/proxy/spool/seal"
)

// Limits of a run: patience is how long recovery may take, grace how long the queues may stay as they are without a restart.
const (
	grace    = 5 * time.Second
	patience = 40 * time.Second
)

// long is which seeds may take longer than half a minute: one in so many. The ordinary test has none of them.
const long = 50

// portraitLog is how much of a log a portrait has, in bytes.
const portraitLog = 16 << 10

// run is one run of the campaign. All choices follow from its seed; the order in which programs do things does not.
type run struct {
	seed           uint64
	dir            string
	r              *rand.Rand
	pacs           *pacs
	his            *his
	line           *line // for objects
	wire           *line // for messages
	clinic, center *site
	modality       *modality
	practice       *practice
	deaths         int // of boxes: each may have lost an answer of the HIS
	began          time.Time

	mu     sync.Mutex
	trace  []string
	faults map[string]int
	struck map[string]int
	again  bool // somebody had to restart a box to get it going
}

// result is what a run found out.
type result struct {
	objects, sends int
	messages       int // of HL7
	again          int // messages that came again because an answer was lost
	faults         map[string]int
	struck         map[string]int // calls that failed, by kind and error
	restarted      bool
	took           time.Duration
}

func (x *run) note(format string, a ...any) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.trace = append(x.trace, fmt.Sprintf("%6d ms  ", time.Since(x.began).Milliseconds())+fmt.Sprintf(format, a...))
}

func (x *run) fault(name string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.faults[name]++
}

// play runs one seed in a directory of its own.
func play(seed uint64, dir string) (res result, trace []string, err error) {
	x := &run{seed: seed, dir: dir, r: rand.New(rand.NewPCG(seed, 0x70f7)), faults: map[string]int{}, struck: map[string]int{}, began: time.Now()}
	defer func() {
		x.end()
		res.faults, res.struck, res.restarted, res.took, trace = x.faults, x.struck, x.again, time.Since(x.began), x.trace
	}()
	if err = x.open(); err != nil {
		return
	}
	x.modality.start()
	x.practice.start()
	for range 2 + x.r.IntN(5) {
		if err = x.trouble(); err != nil {
			return
		}
		x.pause(time.Duration(1+x.r.IntN(60)) * time.Millisecond)
		if x.r.IntN(2) == 0 {
			if err = x.revive(); err != nil {
				return
			}
		}
	}
	if err = x.recover(); err == nil {
		if err = x.judge(&res); err != nil {
			x.logs()
		}
	}
	res.objects, res.sends, res.messages = len(x.modality.objects), x.modality.sent, len(x.practice.messages)
	return
}

func (x *run) pause(d time.Duration) { <-time.After(d) }

func (x *run) open() (err error) {
	host := loopback(int(100+x.seed/250%150), int(1+x.seed%250))
	if x.pacs, err = newPACS(host); err != nil {
		return err
	}
	if x.his, err = newHIS(host); err != nil {
		return err
	}
	if x.line, err = newLine(); err != nil {
		return err
	}
	if x.wire, err = newLine(); err != nil {
		return err
	}
	key, err := seal.NewPrivateKey()
	if err != nil {
		return err
	}
	secret, err := key.RevealBytes()
	if err != nil {
		return err
	}
	make := func(name string) *site {
		s := &site{receipts: map[string]bool{}, cfg: boxConfig{
			Name: name, Host: host, Dir: filepath.Join(x.dir, name), Key: secret, Seed: bytes.Repeat([]byte{9}, 32), Far: x.line.l.Addr().String(), PACS: x.pacs.address,
			FarHL7: x.wire.l.Addr().String(), HIS: x.his.address,
		}}
		return s
	}
	x.clinic, x.center = make("clinic"), make("center")
	for _, s := range []*site{x.clinic, x.center} {
		if err := errors.Join(os.Mkdir(s.cfg.Dir, 0o700), s.start()); err != nil {
			return fmt.Errorf("%s: %w\n%s", s.cfg.Name, err, s.log.String())
		}
	}
	x.line.lead(x.center.at())
	x.wire.lead(x.center.messagesAt())
	own := rand.New(rand.NewPCG(x.seed, 0x5eed)) // the modality has its own pace
	x.modality = &modality{
		objects: makeObjects(x.seed, x.r), address: x.clinic.at,
		onAck:  func(uid string) { x.note("success for %s", uid[strings.LastIndexByte(uid, '.')+1:]) },
		pauses: func() time.Duration { return time.Duration(5+own.IntN(90)) * time.Millisecond },
	}
	pace := rand.New(rand.NewPCG(x.seed, 0x5eee)) // and so has the practice
	x.practice = &practice{
		messages: makeMessages(x.seed, x.r), address: x.clinic.messagesAt,
		onAck:  func(id string) { x.note("AA for %s", id) },
		pauses: func() time.Duration { return time.Duration(1+pace.IntN(60)) * time.Millisecond },
	}
	return nil
}

// trouble does the next thing that goes wrong.
func (x *run) trouble() error {
	s := []*site{x.clinic, x.center}[x.r.IntN(2)]
	name := s.cfg.Name
	n, wait := x.r.IntN(40), time.Duration(5+x.r.IntN(120))*time.Millisecond
	ops := []string{"any", "fsync", "write", "rename", "unlink"}
	switch op := ops[x.r.IntN(len(ops))]; x.r.IntN(10) {
	case 0:
		x.fault("kill -9")
		x.note("%s: kill -9", name)
		s.now.kill()
	case 1, 2:
		x.fault("kill -9 at a disk operation")
		x.note("%s: will die at %s number %d", name, op, n)
		s.now.tell(order{Do: "arm", Op: op, After: n, Times: 1})
	case 3, 4:
		x.fault("power cut")
		return x.powerCut(s, op, n)
	case 5:
		x.fault("EIO")
		times := 1 + x.r.IntN(4)
		x.note("%s: EIO %d times after %s number %d", name, times, op, n)
		s.now.tell(order{Do: "arm", Op: op, After: n, Times: times, Errno: int(unix.EIO)})
	case 6:
		x.fault("ENOSPC")
		times := 1 + x.r.IntN(20)
		x.note("%s: ENOSPC %d times after write number %d", name, times, n)
		s.now.tell(order{Do: "arm", Op: "write", After: n, Times: times, Errno: int(unix.ENOSPC)})
	case 7:
		if x.r.IntN(2) == 0 {
			x.fault("line reset")
			x.note("line: all connections reset")
			x.cut()
			break
		}
		if x.r.IntN(2) == 0 && x.seed%long == 0 {
			x.halfOpen()
			break
		}
		x.fault("line stalls and is reset")
		x.note("line: nothing passes for %v, then reset", wait)
		release, too := x.line.stall(), x.wire.stall()
		x.pause(wait)
		x.cut()
		release()
		too()
	case 8:
		if x.r.IntN(3) == 0 {
			what := []int{1 + x.r.IntN(hisMishapEnd-1)}
			x.fault("HIS has a mishap")
			x.note("HIS: mishap %d", what[0])
			x.his.plan(what)
			break
		}
		mishaps := make([]int, 1+x.r.IntN(6))
		for i := range mishaps {
			mishaps[i] = 1 + x.r.IntN(mishapEnd-1)
		}
		x.fault("archive has mishaps")
		x.note("archive: mishaps %v", mishaps)
		x.pacs.plan(mishaps)
	case 9:
		x.fault("archive goes away")
		x.note("archive: away for %v", wait)
		x.pacs.leave()
		x.pause(wait)
		return x.pacs.come()
	}
	return nil
}

// halfOpen has the same connections carry nothing for longer than the 30 s after which a silent end is given up, and then carry again.
func (x *run) halfOpen() {
	wait := 31*time.Second + time.Duration(x.r.IntN(4000))*time.Millisecond
	x.fault("line half open for more than 30 s")
	x.note("line: nothing passes for %v, without a reset", wait)
	x.deaths++
	release, too := x.line.stall(), x.wire.stall()
	x.pause(wait)
	release()
	too()
}

// cut resets everything between the boxes.
func (x *run) cut() {
	x.deaths++ // of the connection
	x.line.reset()
	x.wire.reset()
}

// powerCut waits until the box has come to a disk operation, if it does, and takes from its disk what was not synced.
func (x *run) powerCut(s *site, op string, n int) error {
	s.now.tell(order{Do: "arm", Op: op, After: n, Times: 1})
	select {
	case <-s.now.done:
	case <-time.After(150 * time.Millisecond):
		s.now.kill()
	}
	renames, files, err := s.now.stakes.cut(s.cfg.Dir, x.r)
	x.struck["rename undone by a power cut"] += renames
	x.struck["file torn by a power cut"] += files
	what := fmt.Sprintf("power cut: %d renames undone, %d files torn", renames, files)
	x.note("%s: %s (at %s number %d)", s.cfg.Name, what, op, n)
	return err
}

// revive starts what is dead, as a service manager does, sometimes only to have it die while it starts.
func (x *run) revive() error {
	for _, s := range []*site{x.clinic, x.center} {
		if !s.now.dead() {
			continue
		}
		if x.r.IntN(4) == 0 {
			x.fault("kill -9 at a disk operation of the start")
			n := x.r.IntN(25)
			x.note("%s: will die in its start at disk operation %d", s.cfg.Name, n)
			s.cfg.Early = &order{Op: "any", After: n, Times: 1}
		}
		err := x.restart(s)
		s.cfg.Early = nil
		if err != nil && !errors.Is(err, errDied) {
			return err
		}
	}
	return nil
}

// count adds up what struck in a life that is over.
func (x *run) count(s *site) {
	x.deaths++
	s.now.stakes.mu.Lock()
	defer s.now.stakes.mu.Unlock()
	for what, n := range s.now.stakes.struck {
		x.struck[what] += n
	}
	clear(s.now.stakes.struck)
}

func (x *run) restart(s *site) error {
	s.now.kill()
	x.count(s)
	err := s.start()
	x.note("%s: started: %v", s.cfg.Name, err)
	if err == nil && s == x.center {
		x.line.lead(s.at())
		x.wire.lead(s.messagesAt())
	}
	return err
}

// recover lets everything be well, and waits until nothing is left to do; then it starts both boxes once more, to see that nothing comes back.
func (x *run) recover() error {
	x.note("all is well from now on")
	x.pacs.plan(nil)
	x.his.plan(nil)
	for _, s := range []*site{x.clinic, x.center} {
		s.now.tell(order{Do: "calm"})
		if s.now.dead() {
			if err := x.restart(s); err != nil {
				return fmt.Errorf("%s does not start: %w\n%s", s.cfg.Name, err, s.log.String())
			}
		}
	}
	for _, last := range []bool{false, true} {
		if err := x.settle(); err != nil {
			return err
		}
		if last {
			return nil
		}
		for _, s := range []*site{x.clinic, x.center} {
			if err := x.restart(s); err != nil {
				return fmt.Errorf("%s does not start: %w\n%s", s.cfg.Name, err, s.log.String())
			}
		}
	}
	return nil
}

func (x *run) settle() error {
	began := time.Now()
	moved, before := began, ""
	restarted := false
	for {
		var state [2]counts
		all := x.modality.told() == len(x.modality.objects) && x.practice.told() == len(x.practice.messages)
		for i, s := range []*site{x.clinic, x.center} {
			n, ok := s.now.ask()
			if !ok { // an operation that was armed before peace came
				if err := x.restart(s); err != nil {
					return err
				}
			}
			state[i] = n
			all = all && ok && n.empty()
		}
		if now := fmt.Sprint(state, x.modality.told(), x.practice.told()); now != before {
			moved, before = time.Now(), now
		}
		switch {
		case all:
			x.note("all is done after %v", time.Since(began).Round(time.Millisecond))
			return nil
		case time.Since(began) > patience:
			return fmt.Errorf("stuck: %d of %d objects and %d of %d messages taken, clinic %+v, center %+v", x.modality.told(), len(x.modality.objects),
				x.practice.told(), len(x.practice.messages), state[0], state[1])
		case time.Since(moved) > grace && !restarted:
			restarted, x.again = true, true
			x.portrait()
			x.note("nothing has changed for %v, clinic %+v, center %+v: both are started anew", grace, state[0], state[1])
			for _, s := range []*site{x.clinic, x.center} {
				if err := x.restart(s); err != nil {
					return err
				}
			}
		}
		x.pause(5 * time.Millisecond)
	}
}

// portrait keeps what a run that does not go on looks like: what every part of each box waits for, and what its log said last.
func (x *run) portrait() {
	for _, s := range []*site{x.clinic, x.center} {
		if stacks, ok := s.now.look(); ok {
			x.note("%s waits:\n%s", s.cfg.Name, stacks)
		}
	}
	x.logs()
}

func (x *run) logs() {
	for _, s := range []*site{x.clinic, x.center} {
		x.note("%s said last:\n%s", s.cfg.Name, s.said(portraitLog))
	}
}

// judge compares what the modality was told with what the archive has.
func (x *run) judge(res *result) error {
	var errs []error
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
		if !x.clinic.receipts[hex.EncodeToString(o.sum[:])] {
			errs = append(errs, fmt.Errorf("NO RECEIPT: %s", o.uid))
		}
	}
	again, wrong := x.his.judge(x.practice.messages, x.deaths+x.his.happened())
	res.again = again
	errs = append(errs, wrong...)
	for _, s := range []*site{x.clinic, x.center} {
		s.now.kill()
		for _, f := range s.forged {
			errs = append(errs, fmt.Errorf("%s: a receipt does not verify: %s", s.cfg.Name, f))
		}
		if bytes.Contains(s.log.Bytes(), []byte("CRASHCANARY")) || bytes.Contains(s.log.Bytes(), []byte("1.2.826.0.1.3680043.10.1.")) ||
			bytes.Contains(s.log.Bytes(), []byte(controlPrefix)) {
			errs = append(errs, fmt.Errorf("%s: the log names a patient's object", s.cfg.Name))
		}
		if bytes.Contains(s.log.Bytes(), []byte("panic")) {
			errs = append(errs, fmt.Errorf("%s: a panic", s.cfg.Name))
		}
	}
	return errors.Join(errs...)
}

func (x *run) end() {
	if x.modality != nil && x.modality.cancel != nil {
		x.modality.cancel()
		<-x.modality.done
	}
	if x.practice != nil {
		x.practice.end()
	}
	for _, s := range []*site{x.clinic, x.center} {
		if s != nil && s.now != nil {
			s.now.kill()
		}
	}
	for _, l := range []*line{x.line, x.wire} {
		if l != nil {
			l.close()
		}
	}
	if x.his != nil {
		x.his.close()
	}
	if x.pacs != nil {
		x.pacs.leave()
	}
}
