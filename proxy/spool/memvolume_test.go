package spool

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
)

var errPowerCut = errors.New("the power is cut")

// memVolume is a volume in memory that knows what a power cut would leave. It is meaner than a journaling file system: entries of
// different folders become durable independently, in order within each folder, and bytes that were not synced survive in part, or as
// zeros, or with a hole.
type memVolume struct {
	mu      sync.Mutex
	entries map[string]*inode // what a running system sees
	durable map[string]*inode // what a power cut leaves at least
	pending map[string][]change
	ops     []string // what was done, for assertions
	cutAt   int      // the number of the operation at which the power is cut; zero for never
	fail    func(op string) error
	space   int64 // what free reports
	// unreadable says which reads fail.
	unreadable func(name string, from, to int64) error
	closed     bool
}

type inode struct {
	content, synced []byte
}

// change is one of a folder: name now leads to node, or to nothing. A rename within the folder also takes the old name away.
type change struct {
	name    string
	node    *inode
	oldName string
}

func newMemVolume() *memVolume {
	return &memVolume{entries: map[string]*inode{}, durable: map[string]*inode{}, pending: map[string][]change{}, space: 1 << 40}
}

// crash returns what the next start finds.
func (v *memVolume) crash(r *rand.Rand) *memVolume {
	v.mu.Lock()
	defer v.mu.Unlock()
	next := newMemVolume()
	left := maps.Clone(v.durable)
	for _, dir := range slices.Sorted(maps.Keys(v.pending)) {
		changes := v.pending[dir]
		for _, c := range changes[:r.IntN(len(changes)+1)] {
			c.apply(left)
		}
	}
	for name, node := range left {
		content := slices.Clone(node.synced)
		if rest := node.content[min(len(node.synced), len(node.content)):]; len(rest) > 0 {
			rest = slices.Clone(rest[:r.IntN(len(rest)+1)])
			switch r.IntN(3) {
			case 0:
				clear(rest)
			case 1: // blocks are written in any order
				from := r.IntN(len(rest) + 1)
				clear(rest[from : from+r.IntN(len(rest)-from+1)])
			}
			content = append(content, rest...)
		}
		n := &inode{content: content, synced: content}
		next.entries[name], next.durable[name] = n, n
	}
	return next
}

func (c change) apply(to map[string]*inode) {
	if c.node == nil {
		delete(to, c.name)
	} else {
		to[c.name] = c.node
	}
	if c.oldName != "" {
		delete(to, c.oldName)
	}
}

func folder(name string) string {
	if dir, _, ok := strings.Cut(name, "/"); ok {
		return dir
	}
	return rootDir
}

// do notes an operation and says whether it may happen.
func (v *memVolume) do(format string, args ...any) error {
	op := fmt.Sprintf(format, args...)
	if v.cutAt > 0 && len(v.ops)+1 >= v.cutAt {
		return errPowerCut
	}
	v.ops = append(v.ops, op)
	if v.fail != nil {
		return v.fail(op)
	}
	return nil
}

func (v *memVolume) change(c change) {
	c.apply(v.entries)
	v.pending[folder(c.name)] = append(v.pending[folder(c.name)], c)
}

func (v *memVolume) create(name string) (file, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.do("create %s", name); err != nil {
		return nil, err
	}
	if v.entries[name] != nil {
		return nil, fs.ErrExist
	}
	n := &inode{}
	v.change(change{name: name, node: n})
	return &memFile{v, n, name}, nil
}

func (v *memVolume) open(name string) (storedFile, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	n := v.entries[name]
	if n == nil {
		return nil, fs.ErrNotExist
	}
	return &memStored{bytes.NewReader(slices.Clone(n.content)), v, name, n}, nil
}

func (v *memVolume) rename(from, to string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.do("rename %s %s", from, to); err != nil {
		return err
	}
	n := v.entries[from]
	if n == nil {
		return fs.ErrNotExist
	}
	if folder(from) == folder(to) {
		v.change(change{name: to, node: n, oldName: from})
	} else {
		v.change(change{name: to, node: n})
		v.change(change{name: from})
	}
	return nil
}

func (v *memVolume) remove(name string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.do("remove %s", name); err != nil {
		return err
	}
	if v.entries[name] == nil {
		return fs.ErrNotExist
	}
	v.change(change{name: name})
	return nil
}

func (v *memVolume) list(dir string) (names []string, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for name := range v.entries {
		if rest, ok := strings.CutPrefix(name, dir+"/"); ok {
			names = append(names, rest)
		}
	}
	return names, nil
}

func (v *memVolume) sync(dir string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.do("sync %s", dir); err != nil {
		return err
	}
	for _, c := range v.pending[dir] {
		c.apply(v.durable)
	}
	v.pending[dir] = nil
	return nil
}

func (v *memVolume) free() (int64, error) { return v.space, nil }

func (v *memVolume) close() error { v.closed = true; return nil }

type memFile struct {
	v    *memVolume
	node *inode
	name string
}

func (f *memFile) Write(p []byte) (int, error) {
	f.v.mu.Lock()
	defer f.v.mu.Unlock()
	if err := f.v.do("write %s", f.name); err != nil {
		return 0, err
	}
	f.node.content = append(f.node.content, p...)
	return len(p), nil
}

func (f *memFile) Sync() error {
	f.v.mu.Lock()
	defer f.v.mu.Unlock()
	if err := f.v.do("fsync %s", f.name); err != nil {
		return err
	}
	f.node.synced = slices.Clone(f.node.content)
	return nil
}

func (f *memFile) Close() error { return nil }

type memStored struct {
	*bytes.Reader
	v    *memVolume
	name string
	node *inode
}

func (f *memStored) Sync() error { return (&memFile{f.v, f.node, f.name}).Sync() }

func (f *memStored) ReadAt(p []byte, at int64) (int, error) {
	if f.v.unreadable != nil {
		if err := f.v.unreadable(f.name, at, at+int64(len(p))); err != nil {
			return 0, err
		}
	}
	return f.Reader.ReadAt(p, at) //nolint:wrapcheck // as it is
}

func (f *memStored) Size() (int64, error) { return f.Reader.Size(), nil }
func (f *memStored) Close() error         { return nil }
