package kmod

import (
	"bufio"
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Tree is an index of the modules of one kernel.
type Tree struct {
	files   map[string]string // name -> file
	builtin map[string]bool
}

// name is what the kernel calls the module of a file: without folder and suffix, and with underscores.
func name(file string) string {
	return strings.ReplaceAll(strings.TrimSuffix(filepath.Base(file), ".ko"), "-", "_")
}

// Index reads the names of the modules below dir, which is /lib/modules/RELEASE.
func Index(dir string) (*Tree, error) {
	t := &Tree{files: map[string]string{}, builtin: map[string]bool{}}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && strings.HasSuffix(p, ".ko") {
			t.files[name(p)] = p
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list kernel modules: %w", err)
	}
	if len(t.files) == 0 {
		return nil, fmt.Errorf("there are no kernel modules (*.ko) in %s", dir)
	}
	list, err := os.ReadFile(filepath.Join(dir, "modules.builtin"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list built-in kernel modules: %w", err)
	}
	for s := bufio.NewScanner(bytes.NewReader(list)); s.Scan(); {
		t.builtin[name(s.Text())] = true
	}
	return t, nil
}

// info is what a module says about itself.
type info struct {
	depends []string // must be loaded before
	prefers []string // should be, and may be patterns of aliases
	aliases []string
}

func read(file string) (i info, err error) {
	f, err := elf.Open(file)
	if err != nil {
		return i, fmt.Errorf("read kernel module %s: %w", file, err)
	}
	defer func() { _ = f.Close() }()
	s := f.Section(".modinfo")
	if s == nil {
		return i, fmt.Errorf("kernel module %s says nothing about itself", file)
	}
	b, err := s.Data()
	if err != nil {
		return i, fmt.Errorf("read kernel module %s: %w", file, err)
	}
	for entry := range bytes.SplitSeq(b, []byte{0}) {
		key, value, _ := strings.Cut(string(entry), "=")
		switch key {
		case "depends":
			i.depends = append(i.depends, strings.FieldsFunc(value, func(r rune) bool { return r == ',' })...)
		case "alias":
			i.aliases = append(i.aliases, value)
		case "softdep":
			// "pre: a b post: c": those after post: are not needed to load the module itself.
			if _, rest, ok := strings.Cut(value, "pre:"); ok {
				rest, _, _ = strings.Cut(rest, "post:")
				i.prefers = append(i.prefers, strings.Fields(rest)...)
			}
		}
	}
	return i, nil
}

// Closure lists the files of the named modules and of all that they need, in the order in which they must be loaded. A name that is
// neither a module nor built in is an error. What a module merely prefers may be missing; it may name an alias, as ext4 does with
// "crc32c", which every module that provides it has.
func (t *Tree) Closure(names ...string) ([]string, error) {
	w := walk{tree: t, seen: map[string]bool{}}
	for _, n := range names {
		if err := w.visit(name(n), "the caller"); err != nil {
			return nil, err
		}
	}
	return w.order, nil
}

type walk struct {
	tree    *Tree
	seen    map[string]bool
	order   []string
	aliases map[string][]string // of the whole tree, read when first needed
}

func (w *walk) visit(n, by string) error {
	if w.seen[n] || w.tree.builtin[n] {
		return nil
	}
	w.seen[n] = true
	file, ok := w.tree.files[n]
	if !ok {
		return fmt.Errorf("the kernel has no module %s, which %s needs", n, by)
	}
	i, err := read(file)
	if err != nil {
		return err
	}
	for _, p := range i.prefers {
		if err := w.prefer(p); err != nil {
			return err
		}
	}
	for _, d := range i.depends {
		if err := w.visit(name(d), n); err != nil {
			return err
		}
	}
	w.order = append(w.order, file)
	return nil
}

// prefer visits the module of that name, or those that have it as an alias and are not for special hardware only: "_generic" if there is
// one.
func (w *walk) prefer(n string) error {
	if m := name(n); w.tree.files[m] != "" || w.tree.builtin[m] {
		return w.visit(m, n)
	}
	if err := w.readAliases(); err != nil {
		return err
	}
	have := w.aliases[n]
	if i := slices.IndexFunc(have, func(m string) bool { return strings.HasSuffix(m, "_generic") }); i >= 0 {
		return w.visit(have[i], n)
	}
	return nil
}

func (w *walk) readAliases() error {
	if w.aliases != nil {
		return nil
	}
	w.aliases = map[string][]string{}
	for m, file := range w.tree.files {
		if !strings.Contains(filepath.ToSlash(file), "/crypto/") && !strings.Contains(path.Base(file), "crc") {
			continue // the only ones that others ask for by an alias; reading thousands takes a minute
		}
		i, err := read(file)
		if err != nil {
			return err
		}
		for _, a := range i.aliases {
			a = strings.TrimPrefix(a, "crypto-")
			w.aliases[a] = append(w.aliases[a], m)
		}
	}
	return nil
}
