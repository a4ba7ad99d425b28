package poll

import (
	"context"
	"fmt"

	"github.com/towpath/towpath/proxy/dicom"
	"github.com/towpath/towpath/proxy/spool"
)

// maxSelection is how many objects are asked for by name at a time: some archives take no long lists.
const maxSelection = 100

// Archive is the Source that every DICOM archive is. It is used by one Poller.
type Archive struct {
	*dicom.Querier
	// Queue and Name are where objects go that are fetched by C-GET.
	Queue spool.Queue
	Name  string
	// Destination makes objects be fetched by C-MOVE instead: the AE title of the queue's own listener, which the archive must know. An archive
	// counts as completed what that listener has taken, and so what is safe.
	Destination string
}

// Fetch implements Source.
func (a Archive) Fetch(ctx context.Context, study string, found, missing []dicom.FoundInstance, fetched func(string)) error {
	if len(missing) == len(found) {
		return a.fetch(ctx, dicom.Selection{Study: study}, missing, fetched)
	}
	for len(missing) > 0 {
		n := 1
		for n < min(len(missing), maxSelection) && missing[n].Series == missing[0].Series {
			n++
		}
		sel := dicom.Selection{Study: study, Series: missing[0].Series}
		for _, m := range missing[:n] {
			sel.Instances = append(sel.Instances, m.UID)
		}
		if err := a.fetch(ctx, sel, missing[:n], fetched); err != nil {
			return err
		}
		missing = missing[n:]
	}
	return nil
}

func (a Archive) fetch(ctx context.Context, sel dicom.Selection, want []dicom.FoundInstance, fetched func(string)) error {
	if a.Destination != "" {
		out, err := a.Move(ctx, sel, a.Destination)
		if err != nil {
			return err //nolint:wrapcheck // it says what the archive answered
		}
		if out.Completed+out.Warned < len(want) || out.Failed > 0 {
			return fmt.Errorf("the archive says that it has sent %d of %d objects to %s, and that %d failed", out.Completed+out.Warned, len(want), a.Destination, out.Failed)
		}
		for _, w := range want {
			fetched(w.UID)
		}
		return nil
	}
	var classes []string
	for _, w := range want {
		classes = append(classes, w.Class)
	}
	_, err := a.Get(ctx, sel, classes, a.Queue, a.Name, fetched)
	return err //nolint:wrapcheck // it says what the archive answered
}

// Idle implements Source.
func (a Archive) Idle(ctx context.Context) { a.Close(ctx) }
