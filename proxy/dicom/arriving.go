package dicom

import (
	"net/netip"
	"slices"
	"time"

	"github.com/towpath/towpath/proxy/spool"
)

// studyPrefix is how many bytes of a data set are looked at for its study before it is stored: group 0020 begins within the first few KB of all
// objects seen. An object whose study stands further behind has none for the gateway's books, and is delivered like any other.
const studyPrefix = 16 << 10

// Urgency says which objects are urgent: those of a calling AE title, of a SOP class, or of a study that a worklist calls so. The zero value is none.
type Urgency struct {
	Callers, Classes []string
	Orders           *Orders // may be nil
}

// priority is that of an object with these attributes.
func (u Urgency) priority(a map[string]string) int {
	if slices.Contains(u.Classes, a[AttrSOPClass]) || slices.Contains(u.Callers, a[AttrCallingAE]) || u.Orders.urgent(a[AttrStudyInstance], time.Now()) {
		return spool.Urgent
	}
	return 0
}

// Queue makes what is put into q urgent where it is.
func (u Urgency) Queue(q spool.Queue) spool.Queue { return urgentQueue{q, u} }

type urgentQueue struct {
	spool.Queue
	urgency Urgency
}

// Create implements spool.Queue.
func (q urgentQueue) Create(m spool.Meta) (spool.Writer, error) {
	m.Priority = max(m.Priority, q.urgency.priority(m.Attributes))
	return q.Queue.Create(m)
}

// arrival is an object on its way into a queue. Its study is in the data set, and an item says what it is when it is made: so the first bytes
// wait here, in memory.
type arrival struct {
	queue spool.Queue
	meta  spool.Meta
	head  []byte
	item  spool.Writer // nil until the first bytes are there
}

// arrive begins one. The buffer may be used again when it has ended.
func arrive(q spool.Queue, name string, o object, buffer []byte) *arrival {
	return &arrival{queue: q, meta: spool.Meta{Queue: name, Attributes: o.attributes()}, head: buffer[:0]}
}

// Write implements io.Writer.
func (w *arrival) Write(b []byte) (int, error) {
	if w.item != nil {
		return w.item.Write(b)
	}
	n := min(len(b), studyPrefix-len(w.head))
	w.head = append(w.head, b[:n]...)
	if len(w.head) < studyPrefix {
		return n, nil
	}
	if err := w.begin(); err != nil {
		return 0, err
	}
	if n == len(b) {
		return n, nil
	}
	more, err := w.item.Write(b[n:])
	return n + more, err
}

// begin makes the item.
func (w *arrival) begin() error {
	if study := identify(w.head, w.meta.Attributes[AttrTransferSyntax]).study; study != "" {
		w.meta.Attributes[AttrStudyInstance] = study
	}
	item, err := w.queue.Create(w.meta)
	if err != nil {
		return err
	}
	if _, err := item.Write(w.head); err != nil {
		item.Abort()
		return err
	}
	w.item = item
	return nil
}

// Commit implements storeWriter.
func (w *arrival) Commit() error {
	if w.item == nil {
		if err := w.begin(); err != nil {
			return err
		}
	}
	_, err := w.item.Commit()
	return err
}

// Abort implements storeWriter.
func (w *arrival) Abort() {
	if w.item != nil {
		w.item.Abort()
	}
}

// source is how an address stands in an attribute.
func source(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
