package crashtest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// child is one life of a box.
type child struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	stakes *unsynced
	stats  chan counts
	stacks chan string
	done   chan struct{} // when it is dead and all that it said is heard

	mu sync.Mutex // guards in
}

// site is a box with its directory, over all its lives.
type site struct {
	cfg boxConfig
	now *child

	mu       sync.Mutex
	address  string // where it was last serving objects
	messages string // and messages
	log      bytes.Buffer
	receipts map[string]bool
	forged   []string
}

func (s *site) at() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.address
}

func (s *site) messagesAt() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.messages
}

// Write takes the log.
func (s *site) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.Write(b)
}

// said returns the last n bytes of the log.
func (s *site) said(n int) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.log.Bytes()
	return string(b[max(0, len(b)-n):])
}

var errDied = errors.New("the box died while it started")

// start begins a life and waits until the box serves.
func (s *site) start() error {
	text, err := json.Marshal(s.cfg)
	if err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	c := &child{
		cmd: exec.Command(os.Args[0]), stakes: newUnsynced(), stats: make(chan counts, 1),
		stacks: make(chan string, 1), done: make(chan struct{}),
	}
	c.cmd.Env = append(os.Environ(), boxEnv+"="+string(text), "GOMAXPROCS=2", "GOTRACEBACK=all")
	c.cmd.Stderr, c.cmd.ExtraFiles = s, []*os.File{w}
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := c.cmd.StdoutPipe()
	if err == nil {
		c.in, err = c.cmd.StdinPipe()
	}
	if err == nil {
		err = c.cmd.Start()
	}
	_ = w.Close()
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.now = c
	s.mu.Unlock()
	ready := make(chan string, 1)
	var heard sync.WaitGroup
	heard.Go(func() { eachLine(r, c.stakes.hear); _ = r.Close() })
	heard.Go(func() { eachLine(out, func(l string) { s.hear(c, l, ready) }) })
	go func() {
		heard.Wait()
		_ = c.cmd.Wait()
		close(c.done)
	}()
	select {
	case at := <-ready:
		s.mu.Lock()
		s.address, s.messages, _ = strings.Cut(at, " ")
		s.mu.Unlock()
		return nil
	case <-c.done:
		s.mu.Lock()
		defer s.mu.Unlock()
		log := s.log.String()
		return fmt.Errorf("%w: %s", errDied, log[max(0, len(log)-500):])
	case <-time.After(time.Minute):
		return errors.New("the box does not start")
	}
}

func eachLine(r io.Reader, do func(string)) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 8<<20)
	for lines.Scan() {
		do(lines.Text())
	}
}

func (s *site) hear(c *child, line string, ready chan<- string) {
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case startLine:
		ready <- rest
	case "stats":
		var n counts
		if json.Unmarshal([]byte(rest), &n) == nil {
			c.stats <- n
		}
	case "stacks":
		var text string
		if json.Unmarshal([]byte(rest), &text) == nil {
			c.stacks <- text
		}
	case "receipt", "forged":
		s.mu.Lock()
		defer s.mu.Unlock()
		if word == "forged" {
			s.forged = append(s.forged, rest)
		} else {
			s.receipts[rest] = true
		}
	}
}

func (c *child) dead() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// tell does not fail: a box that is dead hears nothing.
func (c *child) tell(o order) {
	text, _ := json.Marshal(o)
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _ = c.in.Write(append(text, '\n'))
}

// ask returns what the box has.
func (c *child) ask() (counts, bool) {
	c.tell(order{Do: "stats"})
	select {
	case n := <-c.stats:
		return n, true
	case <-c.done:
	case <-time.After(10 * time.Second):
	}
	return counts{}, false
}

// look returns what all goroutines of the box are at.
func (c *child) look() (string, bool) {
	c.tell(order{Do: "stacks"})
	select {
	case text := <-c.stacks:
		return text, true
	case <-c.done:
	case <-time.After(10 * time.Second):
	}
	return "", false
}

// kill is kill -9.
func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	<-c.done
}
