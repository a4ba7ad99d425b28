package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// modules are loaded into every VM, with what they depend on.
const modules = "wireguard,tun,veth,bridge,dummy,sch_netem,sch_tbf,sch_htb,sch_ingress,nf_tables,nf_conntrack,nft_chain_nat,nft_nat,nft_masq," +
	"nft_redir,nft_ct,nft_limit,nft_log,nft_reject_inet,nft_fib_inet,nf_log_syslog,nfnetlink_queue,nfnetlink_log,af_packet"

// programs are packed into every VM if this machine has them.
const programs = "ip,nft,tc,wg"

func main() {
	if len(os.Args) > 1 && os.Args[1] == "prepare" {
		line, err := prepare(context.Background())
		if err != nil {
			fail(err)
		}
		fmt.Println(line)
		return
	}
	var m machine
	flag.StringVar(&m.kernel, "kernel", "", "`folder` of an unpacked kernel package")
	flag.StringVar(&m.init, "init", "", "the program vminit")
	flag.IntVar(&m.memory, "memory", 768, "memory of the machine in `MiB`")
	flag.BoolVar(&m.steady, "steady", false, "let time pass by instructions, for benchmarks on a busy machine; twice as slow")
	flag.StringVar(&m.disk, "disk", "", "`file` that is the machine's disk /dev/vda; it outlives the machine")
	list := flag.String("modules", modules, "kernel modules to load")
	tools := flag.String("programs", programs, "programs to pack")
	flag.Parse()
	m.modules, m.programs = strings.Split(*list, ","), strings.Split(*tools, ",")
	if m.disk != "" {
		m.modules = append(m.modules, "virtio_pci", "virtio_blk")
	}
	if flag.NArg() == 0 || m.kernel == "" || m.init == "" {
		fail(errors.New(`use it as go test -exec "$(go run ./images/vmtest prepare)"`))
	}
	// go test asks by an interrupt to end.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT)
	code, err := m.run(ctx, flag.Arg(0), flag.Args()[1:])
	stop()
	if err != nil {
		fail(err)
	}
	os.Exit(code)
}

// broken is the exit code when the tests could not be run, or the machine did not end in order.
const broken = 125

func fail(err error) {
	fmt.Fprintln(os.Stderr, "vmtest:", err)
	os.Exit(broken)
}
