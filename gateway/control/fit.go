package control

import (
	"errors"
	"log/slog"

	"github.com/towpath/towpath/provisioning/wire"
)

// maxMisfits is how many frames in a row may not fit until the box takes whole maps only: then it is not the stream that damages changes,
// but the box that cannot make the coordinator's maps of them, for example because it runs an older software.
const maxMisfits = 2

// fit decides how a stream is asked for.
type fit struct {
	// total counts the frames that did not fit, inRow those since the last change that did.
	total, inRow int
	// whole is set until a whole map has come.
	whole bool
}

// ask returns what to say of the map that the box has.
func (f *fit) ask(h wire.Have) wire.Have {
	if f.whole {
		h.Generation, h.Hash = 0, wire.ContentHash{}
	}
	h.Diffs = h.Diffs && f.inRow < maxMisfits
	return h
}

// note takes what became of a frame.
func (f *fit) note(fr wire.Frame, err error, log *slog.Logger) {
	switch {
	case errors.Is(err, wire.ErrMisfit):
		f.total++
		f.inRow++
		f.whole = true
		log.Warn("the box asks for its whole map", "error", err, "times", f.total, "changes", f.inRow < maxMisfits)
	case err != nil:
	case fr.Change != nil:
		f.inRow = 0
	case fr.NetMap != nil:
		f.whole = false
	}
}
