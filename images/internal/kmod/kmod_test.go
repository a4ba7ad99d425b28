package kmod_test

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/towpath/towpath/images/internal/kmod"
)

// module makes an ELF file that has nothing but the section in which a module says what it is.
func module(info string) []byte {
	const names = "\x00.modinfo\x00.shstrtab\x00"
	var b bytes.Buffer
	h := elf.Header64{
		Type: uint16(elf.ET_REL), Machine: uint16(elf.EM_X86_64), Version: 1, Ehsize: 64, Shentsize: 64, Shnum: 3, Shstrndx: 2,
		Shoff: uint64(64 + len(info) + len(names)),
	}
	copy(h.Ident[:], "\x7fELF\x02\x01\x01")
	for _, part := range []any{
		h, []byte(info), []byte(names),
		elf.Section64{},
		elf.Section64{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: 64, Size: uint64(len(info))},
		elf.Section64{Name: 10, Type: uint32(elf.SHT_STRTAB), Off: uint64(64 + len(info)), Size: uint64(len(names))},
	} {
		if err := binary.Write(&b, binary.LittleEndian, part); err != nil {
			panic(err) // a buffer takes everything
		}
	}
	return b.Bytes()
}

func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		b := []byte(text)
		if strings.HasSuffix(name, ".ko") {
			b = module(strings.ReplaceAll(text, " | ", "\x00"))
		}
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestClosure(t *testing.T) {
	dir := tree(t, map[string]string{
		"kernel/net/wireguard.ko":             "license=GPL v2 | depends=udp_tunnel,libcurve25519-generic | alias=net-pf-16",
		"kernel/net/udp_tunnel.ko":            "depends=",
		"kernel/lib/libcurve25519-generic.ko": "depends=udp_tunnel",
		"kernel/net/nf_tables.ko":             "depends=libcrc32c,nfnetlink",
		"kernel/lib/libcrc32c.ko":             "depends= | softdep=pre: crc32c nothing post: late",
		"kernel/crypto/crc32c_generic.ko":     "alias=crypto-crc32c | alias=crc32c",
		"kernel/crypto/crc32c-intel.ko":       "alias=crypto-crc32c",
		"kernel/lib/late.ko":                  "depends=missing",
		"kernel/lib/broken.ko":                "depends=missing",
		"modules.builtin":                     "kernel/net/nfnetlink.ko\nkernel/drivers/tty/serial/8250/8250.ko\n",
	})
	k, err := kmod.Index(dir)
	if err != nil {
		t.Fatal(err)
	}
	for ask, want := range map[string]string{
		"wireguard":           "udp_tunnel libcurve25519-generic wireguard",
		"wireguard,nf-tables": "udp_tunnel libcurve25519-generic wireguard crc32c_generic libcrc32c nf_tables",
		"nfnetlink":           "",
		"broken":              "error",
		"fantasy":             "error",
	} {
		files, err := k.Closure(strings.Split(ask, ",")...)
		var got []string
		for _, f := range files {
			got = append(got, strings.TrimSuffix(filepath.Base(f), ".ko"))
		}
		if err != nil {
			got = []string{"error"}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v (%v), want %s", ask, got, err, want)
		}
	}
	if _, err := kmod.Index(t.TempDir()); err == nil {
		t.Error("a folder without modules is no error")
	}
}
