package portmap

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/tunnel"
)

// mark is on packets to the router, which may never enter a tunnel. It takes a right that not every machine grants; then they go unmarked.
func mark(c syscall.RawConn) {
	_ = c.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, tunnel.MarkOuter) })
}

// DefaultRouter is where the IPv4 default route of the main table leads, with the Port; zero if it leads nowhere.
func DefaultRouter() netip.AddrPort {
	f, err := os.Open("/proc/net/route")
	if err != nil {
		return netip.AddrPort{}
	}
	defer func() { _ = f.Close() }()
	return router(f)
}

// maxRoutes bounds how much of a routing table is read, in bytes.
const maxRoutes = 1 << 20

// router reads a table as proc_pid_net(5) has it: addresses are hexadecimal, in the machine's order of bytes.
func router(r io.Reader) (found netip.AddrPort) {
	best := -1
	for s := bufio.NewScanner(io.LimitReader(r, maxRoutes)); s.Scan(); {
		f := strings.Fields(s.Text())
		if len(f) < 8 || f[1] != "00000000" || f[7] != "00000000" {
			continue
		}
		flags, err := strconv.ParseUint(f[3], 16, 16)
		metric, err2 := strconv.Atoi(f[6])
		raw, err3 := hex.DecodeString(f[2])
		if err != nil || err2 != nil || err3 != nil || len(raw) != 4 || flags&unix.RTF_UP == 0 || flags&unix.RTF_GATEWAY == 0 || best >= 0 && metric >= best {
			continue
		}
		var a [4]byte
		binary.NativeEndian.PutUint32(a[:], binary.BigEndian.Uint32(raw))
		best, found = metric, netip.AddrPortFrom(netip.AddrFrom4(a), Port)
	}
	return found
}
