package crashtest

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// unsynced is what one life of a box has not made durable.
type unsynced struct {
	mu      sync.Mutex
	dirty   map[uint64][][2]int64 // of files by number
	renamed [][2]string
	struck  map[string]int
}

func newUnsynced() *unsynced {
	return &unsynced{dirty: map[uint64][][2]int64{}, struck: map[string]int{}}
}

// hear takes a line of disk.report.
func (u *unsynced) hear(line string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	var ino uint64
	var lo, hi int64
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "dirty":
		if _, err := fmt.Sscan(rest, &ino, &lo, &hi); err == nil {
			u.dirty[ino] = append(u.dirty[ino], [2]int64{lo, hi})
		}
	case "synced":
		if _, err := fmt.Sscan(rest, &ino); err == nil {
			delete(u.dirty, ino)
		}
	case "renamed":
		if from, to, ok := strings.Cut(rest, " "); ok {
			u.renamed = append(u.renamed, [2]string{from, to})
		}
	case "folder":
		var left [][2]string
		for _, r := range u.renamed {
			if filepath.Dir(r[1]) != rest {
				left = append(left, r)
			}
		}
		u.renamed = left
	case "struck":
		u.struck[rest]++
	}
}

// cut undoes some of it, in the way of a file system that orders entries and not data: the last renames are undone, and of bytes that were
// not synced some are zero and some at the end are missing.
func (u *unsynced) cut(dir string, r *rand.Rand) (renames, files int, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i := len(u.renamed) - 1; i >= 0 && r.IntN(4) > 0; i-- {
		from, to := u.renamed[i][0], u.renamed[i][1]
		if os.Rename(to, from) == nil { // it may have been renamed or removed since
			renames++
		}
	}
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		ranges := u.dirty[st.Ino]
		if len(ranges) == 0 || r.IntN(4) == 0 {
			return nil
		}
		files++
		return tear(path, ranges, st.Size, r)
	})
	return renames, files, err
}

func tear(path string, ranges [][2]int64, size int64, r *rand.Rand) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, x := range ranges {
		x[1] = min(x[1], size)
		if x[0] >= x[1] {
			continue
		}
		at := x[0] + r.Int64N(x[1]-x[0]+1)
		switch {
		case x[1] == size && r.IntN(2) == 0:
			if err := f.Truncate(at); err != nil {
				return err
			}
			size = at
		case r.IntN(2) == 0:
			if _, err := f.WriteAt(make([]byte, x[1]-at), at); err != nil {
				return err
			}
		}
	}
	return nil
}
