package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/towpath/towpath/images/internal/cpio"
	"github.com/towpath/towpath/images/internal/kmod"
)

// wantsProduct is the file in a package's folder that has the program packed.
const wantsProduct = "testdata/vm-product"

// pack writes the initramfs: init, the test program with its testdata, kernel modules and programs.
func (m machine) pack(file, test string, args []string) (err error) {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	buffered := bufio.NewWriterSize(f, 1<<20)
	p := packer{Writer: cpio.New(buffered), there: map[string]bool{}}
	for _, d := range []string{"dev", "proc", "sys", "run", "tmp", "var", "vm/package"} {
		p.Directory(d)
	}
	p.Link("var/run", "/run")
	// The kernel opens the console before there is a /dev, and without null Go's runtime does not start where there is no console.
	p.Device("dev/console", 5, 1)
	p.Device("dev/null", 1, 3)
	p.File("etc/hosts", false, []byte("127.0.0.1 localhost\n::1 localhost\n"))
	p.File("vm/args", false, []byte(strings.Join(args, "\x00")))
	p.File("vm/env", false, []byte(strings.Join(environment(os.Environ()), "\x00")))
	if err := errors.Join(
		p.copy(m.init, "init", true), p.program(test, "vm/test"), p.tree("testdata", "vm/package"), p.modules(m), p.programs(m.programs), p.product(m),
	); err != nil {
		return err
	}
	return errors.Join(p.Close(), buffered.Flush())
}

// environment is what tests in the VM see of this machine's.
func environment(all []string) (env []string) {
	for _, e := range all {
		switch name, _, _ := strings.Cut(e, "="); name {
		case "CI", "GODEBUG", "GOGC", "GORACE", "GOTRACEBACK":
			env = append(env, e)
		}
	}
	return env
}

type packer struct {
	*cpio.Writer
	there map[string]bool // files that are packed, by their names in the VM
}

func (p packer) copy(from, to string, executable bool) error {
	if p.there[to] {
		return nil
	}
	p.there[to] = true
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	p.File(to, executable, b)
	return nil
}

// tree copies a folder, if it exists.
func (p packer) tree(from, to string) error {
	err := filepath.WalkDir(from, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			p.Directory(filepath.ToSlash(filepath.Join(to, name)))
			return nil
		}
		return p.copy(name, filepath.ToSlash(filepath.Join(to, name)), false)
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// program copies a program and the shared libraries that it needs.
func (p packer) program(from, to string) error {
	if err := p.copy(from, to, true); err != nil {
		return err
	}
	out, err := exec.Command("ldd", from).Output()
	if err != nil {
		return nil //nolint:nilerr // it is no dynamic program: ldd says so by failing
	}
	for _, lib := range libraries(string(out)) {
		if err := p.copy(lib, strings.TrimPrefix(lib, "/"), true); err != nil {
			return err
		}
	}
	return nil
}

// libraries reads the files from what ldd says: "NAME => FILE (ADDRESS)", and "FILE (ADDRESS)" for the loader.
func libraries(text string) (files []string) {
	for line := range strings.Lines(text) {
		for f := range strings.FieldsSeq(line) {
			if strings.HasPrefix(f, "/") {
				files = append(files, f)
				break
			}
		}
	}
	return files
}

func (p packer) programs(names []string) error {
	for _, n := range names {
		from, err := exec.LookPath(n)
		if err != nil {
			continue // the test that needs it says so
		}
		if err := p.program(from, "bin/"+n); err != nil {
			return err
		}
	}
	return nil
}

// product packs the program for tests whose package says so by a file of that name in its folder: it is large.
func (p packer) product(m machine) error {
	if _, err := os.Stat(wantsProduct); err != nil {
		return nil //nolint:nilerr // it does not
	}
	return p.copy(filepath.Join(filepath.Dir(m.init), product), "bin/"+product, true)
}

func (p packer) modules(m machine) error {
	dir, err := one(m.kernel, "lib/modules/*", "usr/lib/modules/*")
	if err != nil {
		return err
	}
	tree, err := kmod.Index(dir)
	if err != nil {
		return err
	}
	order, err := tree.Closure(m.modules...)
	if err != nil {
		return err
	}
	var list strings.Builder
	for _, file := range order {
		to := "vm/ko/" + filepath.Base(file)
		fmt.Fprintln(&list, "/"+to)
		if err := p.copy(file, to, false); err != nil {
			return err
		}
	}
	p.File("vm/modules", false, []byte(list.String()))
	return nil
}
