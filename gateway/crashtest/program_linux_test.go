package crashtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// launchEnv tells the test binary which program it shall become.
const launchEnv = "TOWPATH_CRASH_LAUNCH"

// launch puts the filter of system calls in place, hands over the file where they are judged, and becomes the program, which knows nothing of it.
func launch(text string) error {
	var argv []string
	if err := json.Unmarshal([]byte(text), &argv); err != nil {
		return err
	}
	const judge = 3
	unix.CloseOnExec(judge)
	listen, err := putFilter(nil)
	if err != nil {
		return err
	}
	// Until this has arrived nothing that is watched goes on, but sendmsg is not.
	if err := unix.Sendmsg(judge, []byte{0}, unix.UnixRights(int(listen)), nil, 0); err != nil {
		return fmt.Errorf("hand over the judge's file: %w", err)
	}
	env := slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, launchEnv+"=") })
	return unix.Exec(argv[0], argv, env)
}

// program is one of the product's programs with its directory, over all its lives.
type program struct {
	name string
	argv []string
	dir  string // where its disk may fail
	make func(f func())

	mu  sync.Mutex
	log bytes.Buffer
	now *life
}

// life is one life of a program.
type life struct {
	cmd    *exec.Cmd
	disk   *disk
	stakes *unsynced
	done   chan struct{} // when it is dead and all that it said is heard
}

// Write takes the log.
func (p *program) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

func (p *program) said() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return bytes.Clone(p.log.Bytes())
}

// start begins a life. Early, if not nil, strikes while the program starts.
func (p *program) start(early *trouble) error {
	text, err := json.Marshal(p.argv)
	if err != nil {
		return err
	}
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("make a socket pair: %w", err)
	}
	defer unix.Close(ends[0])
	theirs := os.NewFile(uintptr(ends[1]), "judge")
	l := &life{cmd: exec.Command(os.Args[0]), stakes: newUnsynced(), done: make(chan struct{})}
	l.cmd.Env = append(os.Environ(), launchEnv+"="+string(text), "GOMAXPROCS=2", "GOTRACEBACK=all")
	l.cmd.Stdout, l.cmd.Stderr, l.cmd.ExtraFiles = p, p, []*os.File{theirs}
	l.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p.make(func() { err = l.cmd.Start() })
	_ = theirs.Close()
	if err != nil {
		return err
	}
	go func() {
		_ = l.cmd.Wait()
		close(l.done)
	}()
	listen, err := receiveFile(ends[0])
	if err != nil {
		l.kill()
		return fmt.Errorf("%s: %w\n%s", p.name, err, p.said())
	}
	l.disk = &disk{dir: p.dir, pid: l.cmd.Process.Pid, listen: listen, tell: l.stakes.hear}
	if early != nil {
		l.disk.arm(early)
	}
	go func() {
		l.disk.run()
		_ = unix.Close(int(listen))
	}()
	p.now = l
	return nil
}

func receiveFile(socket int) (uintptr, error) {
	var b [1]byte
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(socket, b[:], oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return 0, err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) != 1 {
		return 0, errors.Join(err, errors.New("the program did not hand over its judge's file"))
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return 0, err
	}
	return uintptr(fds[0]), nil
}

func (l *life) dead() bool {
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

// kill is kill -9.
func (l *life) kill() {
	_ = l.cmd.Process.Kill()
	<-l.done
}

// freeze stops a program for a while, as a machine that swaps or a virtual one that is paused.
func (l *life) freeze(d time.Duration) {
	_ = l.cmd.Process.Signal(syscall.SIGSTOP)
	<-time.After(d)
	_ = l.cmd.Process.Signal(syscall.SIGCONT)
}

// maker returns what makes children in a thread of its own that lasts as long as this process: the kernel ends a child when the thread that made it
// ends, which is how none outlives the campaign.
func maker() func(f func()) {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
		}
	}()
	return func(f func()) {
		done := make(chan struct{})
		work <- func() { f(); close(done) }
		<-done
	}
}
