package userspace_test

import (
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/towpath/towpath/tunnel/tunneltest"
	"github.com/towpath/towpath/tunnel/uapi"
	"github.com/towpath/towpath/tunnel/userspace"
)

const ifName = "towsys0"

func TestInterface(t *testing.T) {
	tunneltest.Interface(t, "userspace", userspace.DefaultFwMark, func(t testing.TB, o tunneltest.InterfaceOptions) tunneltest.Endpointed {
		d, err := userspace.New(userspace.Options{Interface: o.Interface, KeepBlackhole: o.KeepBlackhole})
		if err != nil {
			t.Fatal(err)
		}
		return d
	})
}

// single makes a device in a namespace of its own.
func single(t *testing.T, o userspace.Options) (*tunneltest.Namespace, tunneltest.Endpointed) {
	t.Helper()
	ns := tunneltest.NewNamespace(t)
	if o.Interface == "" {
		o.Interface = ifName
	}
	d, err := userspace.New(o)
	if err != nil {
		t.Fatal(err)
	}
	inside := ns.Inside(d)
	t.Cleanup(func() { _ = inside.Close() })
	return ns, inside
}

func TestConfigurationSocket(t *testing.T) {
	_, d := single(t, userspace.Options{FwMark: 77})
	c := tunneltest.OneNode(t)
	if err := d.Configure(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	const path = "/var/run/wireguard/" + ifName + ".sock"
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(tunneltest.Patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("get=1\n\n")); err != nil {
		t.Fatal(err)
	}
	s, err := uapi.Parse(conn)
	if err != nil {
		t.Fatal(err)
	}
	if !s.PrivateKey.Equal(c.PrivateKey) || s.Fwmark != 77 || len(s.Peers) != 1 || s.Peers[0].PublicKey != c.Peers[0].PublicKey {
		t.Errorf("wg(8) would see %+v", s)
	}
	// What another hand changes, the next Configure puts right.
	if _, err := conn.Write([]byte("set=1\npublic_key=" + c.Peers[0].PublicKey.Hex() + "\nremove=true\n\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := uapi.Parse(conn); err != nil {
		t.Fatal(err)
	}
	if err := d.Configure(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if st, err := d.Status(t.Context()); err != nil || len(st.Peers) != 1 || !slices.Equal(st.Peers[0].AllowedIPs, c.Peers[0].AllowedIPs) {
		t.Errorf("status %+v (%v)", st, err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

func TestExplainsWhyThereIsNoInterface(t *testing.T) {
	ns, d := single(t, userspace.Options{})
	if err := d.Configure(t.Context(), tunneltest.OneNode(t)); err != nil {
		t.Fatal(err)
	}
	second, err := userspace.New(userspace.Options{Interface: ifName})
	if err != nil {
		t.Fatal(err)
	}
	inside := ns.Inside(second)
	defer inside.Close()
	if err := inside.Configure(t.Context(), tunneltest.OneNode(t)); err == nil || !strings.Contains(err.Error(), "another program holds it") {
		t.Errorf("an interface that is in use: %v", err)
	}
	if err := ns.Do(func() error {
		return netlink.LinkAdd(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "towdummy"}})
	}); err != nil {
		t.Skipf("no dummy interfaces here: %v", err)
	}
	third, err := userspace.New(userspace.Options{Interface: "towdummy"})
	if err != nil {
		t.Fatal(err)
	}
	if err := ns.Inside(third).Configure(t.Context(), tunneltest.OneNode(t)); err == nil || !strings.Contains(err.Error(), "another kind") {
		t.Errorf("an interface of another kind: %v", err)
	}
	if _, err := userspace.New(userspace.Options{Interface: "a-name-that-is-too-long"}); err == nil {
		t.Error("a long name is accepted")
	}
}
