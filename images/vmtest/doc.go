// Command vmtest runs the tests of a package as root in a throw-away virtual machine on a Debian kernel:
//
//	go test -exec "$(go run ./images/vmtest prepare)" ./tunnel/kernel
//
// Any package's tests run unchanged, with -race and -coverprofile as well; a test sees its folder testdata, the programs ip, nft, tc and
// wg, with a file testdata/vm-product the program towpath, and nothing else of this machine. The machine is emulated by QEMU in software, so that
// it runs wherever QEMU does, without root. With -disk it has a disk that outlives it.
// A crash of the kernel, or no result in time, is a failure, and shows what the kernel said.
//
// "prepare" fetches the kernel package that apt has, unpacks it into the user's cache directory, builds what is needed there, and prints
// the argument of -exec.
//
// State: none but that cache.
package main
