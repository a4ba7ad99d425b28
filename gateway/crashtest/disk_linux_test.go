package crashtest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// disk stands between a box and the kernel: calls that change files below dir may fail, or be the box's last, as it was told. What becomes
// durable is told to the campaign, which can then undo the rest as a power cut would. It is in the box itself, or in the campaign's process.
type disk struct {
	dir    string
	pid    int
	listen uintptr
	tell   func(line string)

	mu    sync.Mutex
	armed []*trouble
}

// trouble is one thing that shall happen to calls of one kind, "any" for all: after so many of them the next few fail, or the box dies.
type trouble struct {
	op           string
	after, times int
	errno        unix.Errno // 0 is death
}

// notice and verdict are struct seccomp_notif and struct seccomp_notif_resp of linux/seccomp.h.
type notice struct {
	id         uint64
	pid, flags uint32
	nr         int32
	arch       uint32
	ip         uint64
	args       [6]uint64
}

type verdict struct {
	id    uint64
	val   int64
	errno int32
	flags uint32
}

// watched are the calls by which the product changes files.
func watched() map[uint32]string {
	return map[uint32]string{
		unix.SYS_WRITE: "write", unix.SYS_PWRITE64: "write", unix.SYS_FSYNC: "fsync", unix.SYS_FDATASYNC: "fsync", unix.SYS_RENAMEAT: "rename",
		unix.SYS_UNLINKAT: "unlink",
	}
}

// watchDisk puts the filter in place in this process, and judges here.
func watchDisk(dir string, tell *os.File) (*disk, error) {
	spared, err := sparedFiles()
	if err != nil {
		return nil, err
	}
	listen, err := putFilter(append(spared, 3, 4))
	if err != nil {
		return nil, err
	}
	d := &disk{dir: dir, pid: os.Getpid(), listen: listen, tell: func(line string) { fmt.Fprintln(tell, line) }}
	go d.run()
	return d, nil
}

// putFilter stops watched calls of all threads of this process for good, also after an exec, except those on spared files. It returns the
// file where they are judged.
func putFilter(spared []uint32) (listen uintptr, err error) {
	program := filter(spared)
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return 0, fmt.Errorf("give up new privileges: %w", err)
	}
	// Without the last flag a signal of the Go runtime would interrupt calls that are being judged.
	const flags = unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_TSYNC | unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH |
		unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return 0, fmt.Errorf("put the filter of system calls in place: %w", errno)
	}
	return fd, nil
}

// sparedFiles are those that the Go runtime writes to while nothing else may run: it would wait for a judge who waits for it.
func sparedFiles() (fds []uint32, err error) {
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil, err
	}
	for _, e := range names {
		n, _ := strconv.Atoi(e.Name())
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.Contains(to, "eventfd") {
			fds = append(fds, uint32(n))
		}
	}
	if len(fds) == 0 {
		return nil, errors.New("the runtime's own file was not found")
	}
	return fds, nil
}

func filter(spared []uint32) []unix.SockFilter {
	load := func(at uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
	}
	give := func(what uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: what} }
	equal := func(k uint32) unix.SockFilter { // runs the next one only if equal
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: k, Jf: 1}
	}
	const number, argument = 0, 16 // offsets in struct seccomp_data
	p := []unix.SockFilter{load(argument)}
	for _, fd := range append([]uint32{0, 1, 2}, spared...) {
		p = append(p, equal(fd), give(unix.SECCOMP_RET_ALLOW))
	}
	p = append(p, load(number))
	for nr := range watched() {
		p = append(p, equal(nr), give(unix.SECCOMP_RET_USER_NOTIF))
	}
	return append(p, give(unix.SECCOMP_RET_ALLOW))
}

// run judges one call after the other, until the last watched process is gone. In that process it may itself do nothing that is watched.
func (d *disk) run() {
	runtime.LockOSThread()
	for {
		ready := []unix.PollFd{{Fd: int32(d.listen), Events: unix.POLLIN}}
		if _, err := unix.Poll(ready, -1); err == nil && ready[0].Revents&unix.POLLIN == 0 {
			return
		}
		var n notice
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, d.listen, unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&n))); errno != 0 {
			continue // the call was interrupted
		}
		v := verdict{id: n.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
		switch errno := d.judge(&n); errno {
		case 0:
		case deadly:
			_ = unix.Kill(d.pid, unix.SIGKILL)
			continue // without an answer, so that the call is not done
		default:
			v.errno, v.flags = -int32(errno), 0
		}
		_, _, _ = unix.Syscall(unix.SYS_IOCTL, d.listen, unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&v)))
	}
}

// deadly is no error of the kernel's: the call is the last.
const deadly = unix.Errno(1 << 20)

func (d *disk) judge(n *notice) unix.Errno {
	op := watched()[uint32(n.nr)]
	var path, to string
	switch op {
	case "rename":
		path, to = d.place(n.args[0], n.args[1]), d.place(n.args[2], n.args[3])
	case "unlink":
		path = d.place(n.args[0], n.args[1])
	default:
		path, _ = os.Readlink(d.file(n.args[0]))
	}
	if !strings.HasPrefix(path, d.dir+"/") {
		return 0
	}
	if errno := d.strike(op); errno != 0 {
		return errno
	}
	d.report(op, n, path, to)
	return 0
}

// file is an open file of the watched process.
func (d *disk) file(fd uint64) string { return fmt.Sprintf("/proc/%d/fd/%d", d.pid, int32(fd)) }

// place is what a folder and a name stand for.
func (d *disk) place(dirfd, name uint64) string {
	var buf [512]byte
	local := []unix.Iovec{{Base: &buf[0], Len: uint64(len(buf))}}
	n, err := unix.ProcessVMReadv(d.pid, local, []unix.RemoteIovec{{Base: uintptr(name), Len: len(buf)}}, 0)
	if err != nil {
		// It lies at the end of what is mapped.
		rest := int(4096 - name%4096)
		n, _ = unix.ProcessVMReadv(d.pid, local, []unix.RemoteIovec{{Base: uintptr(name), Len: min(rest, len(buf))}}, 0)
	}
	s, _, _ := strings.Cut(string(buf[:max(n, 0)]), "\x00")
	if filepath.IsAbs(s) {
		return s
	}
	dir, _ := os.Readlink(d.file(dirfd))
	return filepath.Join(dir, s)
}

// strike does what is due.
func (d *disk) strike(op string) unix.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, t := range d.armed {
		if t.times <= 0 || t.op != "any" && t.op != op {
			continue
		}
		if t.after > 0 {
			t.after--
			continue
		}
		t.times--
		if t.errno == 0 {
			return deadly
		}
		d.tell(fmt.Sprint("struck ", op, " ", t.errno.Error()))
		return t.errno
	}
	return 0
}

func (d *disk) arm(t *trouble) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if t == nil {
		d.armed = nil
		return
	}
	d.armed = append(d.armed, t)
}

// report tells what is about to be done, and of what is at stake in a power cut.
func (d *disk) report(op string, n *notice, path, to string) {
	var st unix.Stat_t
	switch op {
	case "rename":
		if unix.Lstat(to, &st) == nil { // what a rename replaces cannot be brought back
			return
		}
		d.tell(fmt.Sprintf("renamed %s %s", path, to))
	case "write":
		if unix.Stat(d.file(n.args[0]), &st) != nil {
			return
		}
		at := st.Size
		if n.nr == unix.SYS_PWRITE64 {
			at = int64(n.args[3])
		}
		d.tell(fmt.Sprintf("dirty %d %d %d", st.Ino, at, at+int64(n.args[2])))
	case "fsync":
		if unix.Stat(d.file(n.args[0]), &st) != nil {
			return
		}
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			d.tell("folder " + path)
		} else {
			d.tell(fmt.Sprintf("synced %d", st.Ino))
		}
	}
}
