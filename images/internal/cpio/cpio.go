package cpio

import (
	"fmt"
	"io"
	"path"
)

// The file types of a mode (inode(7)).
const (
	typeDirectory = 0o040000
	typeRegular   = 0o100000
	typeLink      = 0o120000
	typeCharacter = 0o020000
)

// Writer writes one archive. Directories that a name needs are made on the way. The first error is kept and returned by Close.
type Writer struct {
	w    io.Writer
	ino  uint32
	off  int64
	dirs map[string]bool
	err  error
}

// New starts an archive on w.
func New(w io.Writer) *Writer { return &Writer{w: w, dirs: map[string]bool{".": true}} }

// Directory adds a directory, unless it is there already. Names are relative to the root and have no leading slash.
func (c *Writer) Directory(name string) {
	name = path.Clean(name)
	if c.dirs[name] {
		return
	}
	c.dirs[name] = true
	c.Directory(path.Dir(name))
	c.entry(name, typeDirectory|0o755, nil, 0, 0)
}

// File adds a regular file.
func (c *Writer) File(name string, executable bool, data []byte) {
	mode := uint32(typeRegular | 0o644)
	if executable {
		mode |= 0o111
	}
	c.Directory(path.Dir(name))
	c.entry(name, mode, data, 0, 0)
}

// Link adds a symbolic link.
func (c *Writer) Link(name, target string) {
	c.Directory(path.Dir(name))
	c.entry(name, typeLink|0o777, []byte(target), 0, 0)
}

// Device adds a character device.
func (c *Writer) Device(name string, major, minor uint32) {
	c.Directory(path.Dir(name))
	c.entry(name, typeCharacter|0o600, nil, major, minor)
}

// Close ends the archive and returns the first error of all. It does not close the writer below.
func (c *Writer) Close() error {
	c.entry("TRAILER!!!", 0, nil, 0, 0)
	return c.err
}

func (c *Writer) entry(name string, mode uint32, data []byte, major, minor uint32) {
	if int64(len(data)) > 1<<32-1 && c.err == nil {
		c.err = fmt.Errorf("%s is larger than the 4 GiB that the format allows", name)
	}
	c.ino++
	// magic, then in hexadecimal: inode, mode, user, group, links, time, size, device, device of a special file, length of the name, sum
	c.write(fmt.Appendf(nil, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
		c.ino, mode, 0, 0, 1, 0, len(data), 0, 0, major, minor, len(name)+1, 0))
	c.write(append([]byte(name), 0))
	c.pad()
	c.write(data)
	c.pad()
}

func (c *Writer) write(p []byte) {
	if c.err != nil {
		return
	}
	n, err := c.w.Write(p)
	c.off += int64(n)
	c.err = err
}

// pad fills up to a multiple of four bytes.
func (c *Writer) pad() {
	if r := c.off % 4; r != 0 {
		c.write(make([]byte, 4-r))
	}
}
