package dicom_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"

	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/dicom"
	"github.com/towpath/towpath/proxy/dicom/dimse"
	"github.com/towpath/towpath/proxy/dicom/pdu"
	"github.com/towpath/towpath/proxy/dicom/ul"
)

// mishap is what a holdings does with one C-STORE instead of storing and answering.
type mishap int

const (
	allWell      mishap = iota
	storesSilent        // stores, then hangs up without an answer
	losesSilent         // hangs up without having stored
	abortsAfter         // reads all, does not store, aborts
	abortsEarly         // aborts in the middle of the data set
	fullNow             // A700
	duplicate           // 0111
)

// holdings is an archive that counts what it stores, can be asked, and has mishaps.
type holdings struct {
	habits

	mu     sync.Mutex
	tries  int
	stored []holding
	asked  map[string]int // by command
	places []string       // what was asked for at IMAGE level
}

// habits are how a holdings behaves.
type habits struct {
	// mishaps is asked for each C-STORE; nil means that all is well.
	mishaps func(instance string, nth int) mishap
	// finds and commits say how it can be asked; reporter, if set, gets reports on an association of their own.
	finds, commits bool
	reporter       func(report []byte)
	findStatus     dimse.Status     // instead of an answer
	findBreaks     func() bool      // hangs up instead of answering
	ignoresKeys    bool             // answers queries with everything
	rejects        *pdu.AssociateRJ // of those who want to ask
}

type holding struct{ instance, data string }

func (h *holdings) has(instance string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.ContainsFunc(h.stored, func(o holding) bool { return o.instance == instance })
}

// count returns how often the same object was stored.
func (h *holdings) count(instance, data string) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, o := range h.stored {
		if o == (holding{instance, data}) {
			n++
		}
	}
	return n
}

func (h *holdings) questions(command string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.asked[command]
}

func (h *holdings) Serve(ctx context.Context, c net.Conn) proxy.Result {
	if err := h.serve(ctx, c); err != nil && !errors.Is(err, ul.ErrReleased) && !errors.Is(err, errHangUp) {
		return proxy.Result{Detail: err.Error()}
	}
	return proxy.Result{}
}

var errHangUp = errors.New("hangs up")

func (h *holdings) serve(ctx context.Context, c net.Conn) error {
	in, err := ul.Receive(ctx, c, ul.Config{})
	if err != nil {
		return err
	}
	var contexts []pdu.AcceptedContext
	asks := false
	for _, pc := range in.RQ.Contexts {
		ac := pdu.AcceptedContext{ID: pc.ID, TransferSyntax: pc.TransferSyntaxes[0]}
		switch pc.AbstractSyntax {
		case dicom.StudyRootFind:
			asks = true
			if !h.finds {
				ac.Result = pdu.ContextAbstractSyntax
			}
		case dicom.StorageCommitment:
			asks = true
			if !h.commits {
				ac.Result = pdu.ContextAbstractSyntax
			}
		}
		contexts = append(contexts, ac)
	}
	if asks && h.rejects != nil {
		return in.Reject(ctx, *h.rejects)
	}
	a, err := in.Accept(ctx, contexts)
	if err != nil {
		return err
	}
	for err == nil {
		err = h.message(ctx, a)
	}
	return err
}

func (h *holdings) message(ctx context.Context, a *ul.Association) error {
	id, command, err := a.Receive(ctx)
	if err != nil {
		return err
	}
	set, err := dimse.Decode(command)
	if err != nil {
		return err
	}
	h.mu.Lock()
	if h.asked == nil {
		h.asked = map[string]int{}
	}
	h.asked[set.CommandField().String()]++
	h.mu.Unlock()
	switch set.CommandField() {
	case dimse.CStoreRQ:
		return h.store(ctx, a, id, &set)
	case dimse.CFindRQ:
		return h.find(ctx, a, id, &set)
	case dimse.NActionRQ:
		return h.commit(ctx, a, id, &set)
	default:
		if !set.HasDataSet() {
			return nil // the answer to a report
		}
		return errors.New("unexpected " + set.CommandField().String())
	}
}

func (h *holdings) store(ctx context.Context, a *ul.Association, id uint8, set *dimse.Set) error {
	rq := dimse.ParseStoreRQ(set)
	h.mu.Lock()
	h.tries++
	what := allWell
	if h.mishaps != nil {
		what = h.mishaps(rq.SOPInstance, h.tries)
	}
	h.mu.Unlock()
	if what == abortsEarly {
		a.Abort()
		return errHangUp
	}
	data, err := io.ReadAll(a.Data(ctx, id))
	if err != nil {
		return err
	}
	if what == allWell || what == storesSilent {
		h.mu.Lock()
		h.stored = append(h.stored, holding{rq.SOPInstance, string(data)})
		h.mu.Unlock()
	}
	status := map[mishap]dimse.Status{fullNow: dimse.OutOfResources, duplicate: dimse.DuplicateInstance}[what]
	switch what {
	case storesSilent, losesSilent:
		return errHangUp
	case abortsAfter:
		a.Abort()
		return errHangUp
	default:
	}
	out := dimse.Respond(set, status, "").Set()
	_, err = a.Send(ctx, id, out.Encode(), nil)
	return err
}

// find answers a query for one instance. Its identifier is read with the knowledge of how it is written.
func (h *holdings) find(ctx context.Context, a *ul.Association, id uint8, set *dimse.Set) error {
	b, err := io.ReadAll(a.Data(ctx, id))
	if err != nil {
		return err
	}
	keys := plain(b)
	h.mu.Lock()
	h.places = append(h.places, keys[0x00080052]+" "+keys[0x0020000D]+" "+keys[0x0020000E])
	h.mu.Unlock()
	if h.findBreaks != nil && h.findBreaks() {
		return errHangUp
	}
	answer := func(status dimse.Status, data []byte) error {
		out := dimse.Respond(set, status, "").Set()
		if data == nil {
			_, err := a.Send(ctx, id, out.Encode(), nil)
			return err
		}
		out.SetUS(dimse.TagDataSetType, 1)
		_, err := a.Send(ctx, id, out.Encode(), bytes.NewReader(data))
		return err
	}
	if h.findStatus != 0 {
		return answer(h.findStatus, nil)
	}
	var matches []string
	switch {
	case h.ignoresKeys:
		matches = slices.Repeat([]string{"1.9.9.9"}, 100)
	case h.has(keys[0x00080018]):
		matches = []string{keys[0x00080018]}
	}
	for _, m := range matches {
		if err := answer(dimse.Pending, implicitUI(0x0008, 0x0018, m)); err != nil {
			return err
		}
	}
	return answer(dimse.Success, nil)
}

// commit takes a request for commitment and reports.
func (h *holdings) commit(ctx context.Context, a *ul.Association, id uint8, set *dimse.Set) error {
	b, err := io.ReadAll(a.Data(ctx, id))
	if err != nil {
		return err
	}
	out := dimse.Respond(set, dimse.Success, "").Set()
	if _, err := a.Send(ctx, id, out.Encode(), nil); err != nil {
		return err
	}
	keys := plain(b)
	instance := keys[0x00081155]
	ref := implicitUI(0x0008, 0x1155, instance)
	list := uint16(0x1199)
	if !h.has(instance) {
		list = 0x1198
		ref = append(ref, implicitEl(0x0008, 0x1197, []byte{0x12, 0x01})...)
	}
	report := append(implicitUI(0x0008, 0x1195, keys[0x00081195]), implicitEl(0x0008, list, implicitEl(0xFFFE, 0xE000, ref))...)
	if h.reporter != nil {
		h.reporter(report)
		return nil
	}
	event := dimse.EventReportRQ{MessageID: 1, SOPClass: dicom.StorageCommitment, SOPInstance: "1.2.840.10008.1.20.1.1", Event: 1}.Set()
	_, err = a.Send(ctx, id, event.Encode(), bytes.NewReader(report))
	return err
}

func implicitEl(group, number uint16, value []byte) []byte {
	b := binary.LittleEndian.AppendUint16(binary.LittleEndian.AppendUint16(nil, group), number)
	return append(binary.LittleEndian.AppendUint32(b, uint32(len(value))), value...)
}

func implicitUI(group, number uint16, uid string) []byte {
	return implicitEl(group, number, []byte(uid+strings.Repeat("\x00", len(uid)%2)))
}

// plain reads a flat data set in Implicit VR Little Endian, and what is in items as if it were flat too.
func plain(b []byte) map[uint32]string {
	out := map[uint32]string{}
	for len(b) >= 8 {
		tag := uint32(binary.LittleEndian.Uint16(b))<<16 | uint32(binary.LittleEndian.Uint16(b[2:]))
		n := int(binary.LittleEndian.Uint32(b[4:]))
		if b = b[8:]; tag == 0x00081199 || tag == 0xFFFEE000 {
			continue
		}
		out[tag] = strings.Trim(string(b[:n]), " \x00")
		b = b[n:]
	}
	return out
}

// dataSet is a small data set with the place of an object in it.
func dataSet(instance, text string) string {
	return string(slices.Concat(
		implicitUI(0x0008, 0x0018, instance), implicitEl(0x0010, 0x0010, []byte(fmt.Sprintf("%-8s", text))),
		implicitUI(0x0020, 0x000D, "1.2.77"), implicitUI(0x0020, 0x000E, "1.2.77.1"), implicitEl(0x7FE0, 0x0010, make([]byte, 2000)),
	))
}
