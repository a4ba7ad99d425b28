//go:build stub

package towpath

import (
	_ "github.com/danielgtaylor/huma/v2/adapters/humago"
	_ "github.com/google/go-cmp/cmp"
	_ "github.com/google/renameio/v2"
	_ "github.com/rogpeppe/go-internal/testscript"
	_ "github.com/suyashkumar/dicom"
	_ "github.com/urfave/cli/v2"
	_ "github.com/vishvananda/netlink"
	_ "github.com/vishvananda/netns"
	_ "go.uber.org/goleak"
	_ "golang.org/x/sync/errgroup"
	_ "golang.org/x/sys/unix"
	_ "golang.zx2c4.com/wireguard/conn/bindtest"
	_ "golang.zx2c4.com/wireguard/device"
	_ "golang.zx2c4.com/wireguard/ipc"
	_ "golang.zx2c4.com/wireguard/tun/netstack"
	_ "golang.zx2c4.com/wireguard/wgctrl"
	_ "gvisor.dev/gvisor/pkg/tcpip/stack"
	_ "modernc.org/sqlite"
	_ "pgregory.net/rapid"
	_ "golang.org/x/crypto/blake2s"
	_ "rsc.io/qr"
	_ "github.com/jackc/pgx/v5/pgxpool"
)
