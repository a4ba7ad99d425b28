package tunneltest_test

import (
	"errors"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/tunnel/tunneltest"
)

// The tests of this file show that the machine they run on, which may be the VM of images/vmtest, has what other tests rely on.

// echo answers datagrams at 198.51.100.1 from a namespace, and returns a way to ask it from another: how long the answer took.
func echo(t *testing.T) (a, b *tunneltest.Namespace, ask func() (time.Duration, error)) {
	t.Helper()
	s := tunneltest.NewSwitch(t)
	a, b = tunneltest.NewNamespace(t), tunneltest.NewNamespace(t)
	s.Plug(a, netip.MustParsePrefix("198.51.100.1/24"))
	s.Plug(b, netip.MustParsePrefix("198.51.100.2/24"))
	var server net.PacketConn
	if err := a.Do(func() (err error) {
		server, err = net.ListenPacket("udp", "198.51.100.1:7")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	go func() {
		buf := make([]byte, 64)
		for {
			n, from, err := server.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = server.WriteTo(buf[:n], from)
		}
	}()
	return a, b, func() (took time.Duration, err error) {
		err = b.Do(func() error {
			c, err := net.Dial("udp", "198.51.100.1:7")
			if err != nil {
				return err
			}
			defer c.Close()
			if err := c.SetDeadline(time.Now().Add(tunneltest.Silence * 4)); err != nil {
				return err
			}
			begin := time.Now()
			if _, err := c.Write([]byte("hello")); err != nil {
				return err
			}
			_, err = c.Read(make([]byte, 64))
			took = time.Since(begin)
			return err
		})
		return took, err
	}
}

func TestMachineDelays(t *testing.T) {
	tunneltest.NeedRoot(t)
	_, b, ask := echo(t)
	if _, err := ask(); err != nil { // and neighbors are known from now on
		t.Fatal(err)
	}
	const delay = 300 * time.Millisecond
	err := b.Do(func() error {
		eth, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		attrs := netlink.QdiscAttrs{LinkIndex: eth.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT}
		return netlink.QdiscAdd(netlink.NewNetem(attrs, netlink.NetemQdiscAttrs{Latency: uint32(delay.Microseconds())}))
	})
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) {
		t.Skipf("this kernel has no netem: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if took, err := ask(); err != nil || took < delay {
		t.Errorf("behind a delay of %v it took %v (%v)", delay, took, err)
	}
}

func TestMachineFilters(t *testing.T) {
	tunneltest.NeedRoot(t)
	nft, err := exec.LookPath("nft")
	if err != nil {
		t.Skip("no nft here")
	}
	a, _, ask := echo(t)
	rules := func(text string) {
		t.Helper()
		if err := a.Do(func() error {
			cmd := exec.CommandContext(t.Context(), nft, "-f", "-")
			cmd.Stdin = strings.NewReader(text)
			if out, err := cmd.CombinedOutput(); err != nil {
				return errors.New(string(out))
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := ask(); err != nil {
		t.Fatal(err)
	}
	// What the product's own rules use: sets of prefixes, marks, connection tracking, a limit and a rejection.
	rules(`table inet test {
		set who { type ipv4_addr; flags interval; elements = { 198.51.100.0/28 } }
		chain in {
			type filter hook input priority filter; policy accept;
			meta mark 0x70770001 drop
			ip saddr @who ct state new,established udp dport 7 limit rate 10/second counter reject
		}
	}`)
	if _, err := ask(); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("rejected, and the answer is %v", err)
	}
	rules("delete table inet test")
	if _, err := ask(); err != nil {
		t.Errorf("without the rules: %v", err)
	}
}
