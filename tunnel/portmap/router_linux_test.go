package portmap

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// The default route with the least metric is taken; one without a gateway, or that is down, is not.
func TestRouter(t *testing.T) {
	hex := func(a, b, c, d byte) string {
		return fmt.Sprintf("%08X", binary.NativeEndian.Uint32([]byte{a, b, c, d}))
	}
	line := func(dst, gw, flags, metric, mask string) string {
		return strings.Join([]string{"eth0", dst, gw, flags, "0", "0", metric, mask, "0", "0", "0"}, "\t") + "\n"
	}
	const none = "00000000"
	table := "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n" +
		line(none, none, "0001", "0", none) + line(none, hex(10, 0, 0, 9), "0002", "1", none) + line(none, hex(10, 0, 0, 1), "0003", "200", none) +
		line(none, hex(192, 168, 1, 1), "0003", "100", none) + line(hex(10, 0, 0, 0), hex(10, 0, 0, 2), "0003", "0", "000000FF")
	if got := router(strings.NewReader(table)); got != netip.MustParseAddrPort("192.168.1.1:5351") {
		t.Errorf("%v", got)
	}
	if got := router(strings.NewReader("nothing of use\n")); got.IsValid() {
		t.Errorf("%v", got)
	}
}
