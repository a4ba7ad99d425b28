package netstack_test

import (
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/towpath/towpath/tunnel/netstack"
	"github.com/towpath/towpath/tunnel/tunneltest"
)

// wg(8) itself shows the device.
func TestForeignToolShowsTheDevice(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	wg, err := exec.LookPath("wg")
	if err != nil {
		t.Skip("no wg here")
	}
	const name = "towstack0"
	d, err := netstack.New(netstack.Options{
		Socket: name, Bind: tunneltest.NewNetwork().Bind(netip.MustParseAddr("198.51.100.1")),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	c := tunneltest.OneNode(t)
	if err := d.Configure(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	show := func() (string, error) {
		out, err := exec.CommandContext(t.Context(), wg, "show", name).CombinedOutput()
		return string(out), err
	}
	out, err := show()
	if err != nil {
		t.Fatalf("wg: %v: %s", err, out)
	}
	for _, want := range []string{"interface: " + name, "peer: " + c.Peers[0].PublicKey.String(), "endpoint: 198.51.100.2:51820", "100.64.1.0/24"} {
		if !strings.Contains(out, want) {
			t.Errorf("wg does not show %q:\n%s", want, out)
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if out, err := show(); err == nil {
		t.Errorf("a closed device is still shown:\n%s", out)
	}
}
