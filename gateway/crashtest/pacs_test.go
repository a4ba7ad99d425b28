package crashtest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/towpath/towpath/proxy/dicom"
	"github.com/towpath/towpath/proxy/dicom/dimse"
	"github.com/towpath/towpath/proxy/dicom/pdu"
	"github.com/towpath/towpath/proxy/dicom/ul"
)

// Mishaps of the archive with one object.
const (
	storesSilent = iota + 1 // stores, and hangs up without an answer
	losesSilent             // takes all, and hangs up without having stored
	abortsEarly             // aborts in the middle of the object
	outOfResources
	mishapEnd
)

// pacs is an archive that counts each time that it stores something, and that can be asked by C-FIND. It outlives everything else.
type pacs struct {
	address string

	mu       sync.Mutex
	stored   map[string][][sha256.Size]byte // by SOP instance UID
	mishaps  []int                          // of the next objects; 0 is none
	happened int
	l        net.Listener
	conns    map[net.Conn]bool
	wg       sync.WaitGroup
}

func newPACS(host string) (*pacs, error) {
	p := &pacs{stored: map[string][][sha256.Size]byte{}, conns: map[net.Conn]bool{}, address: net.JoinHostPort(host, "0")}
	return p, p.come()
}

// come makes the archive reachable, and go unreachable.
func (p *pacs) come() error {
	l, err := net.Listen("tcp", p.address)
	for range 100 { // somebody else may have taken the port for a moment
		if err == nil {
			break
		}
		<-time.After(50 * time.Millisecond)
		l, err = net.Listen("tcp", p.address)
	}
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.l, p.address = l, l.Addr().String()
	p.mu.Unlock()
	p.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.mu.Lock()
			p.conns[c] = true
			p.mu.Unlock()
			p.wg.Go(func() {
				_ = p.serve(context.Background(), c)
				_ = c.Close()
				p.mu.Lock()
				delete(p.conns, c)
				p.mu.Unlock()
			})
		}
	})
	return nil
}

func (p *pacs) leave() {
	p.mu.Lock()
	_ = p.l.Close()
	for c := range p.conns {
		_ = c.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
}

func (p *pacs) plan(mishaps []int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mishaps = mishaps
}

// everything is all that was stored, by SOP instance UID.
func (p *pacs) everything() map[string][][sha256.Size]byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.stored)
}

// reset forgets everything, for the next run.
func (p *pacs) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stored, p.mishaps = map[string][][sha256.Size]byte{}, nil
}

func (p *pacs) copies(uid string) [][sha256.Size]byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stored[uid]
}

var errHangUp = errors.New("hangs up")

func (p *pacs) serve(ctx context.Context, c net.Conn) error {
	in, err := ul.Receive(ctx, c, ul.Config{})
	if err != nil {
		return err
	}
	var contexts []pdu.AcceptedContext
	for _, pc := range in.RQ.Contexts {
		ac := pdu.AcceptedContext{ID: pc.ID, TransferSyntax: pc.TransferSyntaxes[0]}
		if pc.AbstractSyntax == dicom.StorageCommitment {
			ac.Result = pdu.ContextAbstractSyntax
		}
		contexts = append(contexts, ac)
	}
	a, err := in.Accept(ctx, contexts)
	for err == nil {
		err = p.message(ctx, a)
	}
	return err
}

func (p *pacs) message(ctx context.Context, a *ul.Association) error {
	id, command, err := a.Receive(ctx)
	if err != nil {
		return err
	}
	set, err := dimse.Decode(command)
	if err != nil {
		return err
	}
	switch set.CommandField() {
	case dimse.CStoreRQ:
		return p.store(ctx, a, id, &set)
	case dimse.CFindRQ:
		return p.find(ctx, a, id, &set)
	default:
		return errHangUp
	}
}

func (p *pacs) store(ctx context.Context, a *ul.Association, id uint8, set *dimse.Set) error {
	rq := dimse.ParseStoreRQ(set)
	p.mu.Lock()
	what := 0
	if len(p.mishaps) > 0 {
		what, p.mishaps = p.mishaps[0], p.mishaps[1:]
		p.happened++
	}
	p.mu.Unlock()
	if what == abortsEarly {
		a.Abort()
		return errHangUp
	}
	h := sha256.New()
	if _, err := io.Copy(h, a.Data(ctx, id)); err != nil {
		return err
	}
	if what == 0 || what == storesSilent {
		p.mu.Lock()
		p.stored[rq.SOPInstance] = append(p.stored[rq.SOPInstance], [sha256.Size]byte(h.Sum(nil)))
		p.mu.Unlock()
	}
	status := dimse.Success
	switch what {
	case storesSilent, losesSilent:
		return errHangUp
	case outOfResources:
		status = dimse.OutOfResources
	}
	out := dimse.Respond(set, status, "").Set()
	_, err := a.Send(ctx, id, out.Encode(), nil)
	return err
}

// find says whether the archive has one object.
func (p *pacs) find(ctx context.Context, a *ul.Association, id uint8, set *dimse.Set) error {
	b, err := io.ReadAll(a.Data(ctx, id))
	if err != nil {
		return err
	}
	uid := instanceIn(b)
	if len(p.copies(uid)) > 0 {
		out := dimse.Respond(set, dimse.Pending, "").Set()
		out.SetUS(dimse.TagDataSetType, 1)
		if _, err := a.Send(ctx, id, out.Encode(), bytes.NewReader(element(0x0008, 0x0018, pad(uid)))); err != nil {
			return err
		}
	}
	out := dimse.Respond(set, dimse.Success, "").Set()
	_, err = a.Send(ctx, id, out.Encode(), nil)
	return err
}

// instanceIn reads (0008,0018) of a flat data set in Implicit VR Little Endian.
func instanceIn(b []byte) string {
	for len(b) >= 8 {
		tag, n := uint32(binary.LittleEndian.Uint16(b))<<16|uint32(binary.LittleEndian.Uint16(b[2:])), binary.LittleEndian.Uint32(b[4:])
		if b = b[8:]; int64(n) > int64(len(b)) {
			return ""
		}
		if tag == 0x00080018 {
			return strings.TrimRight(string(b[:n]), "\x00 ")
		}
		b = b[n:]
	}
	return ""
}

func element(group, number uint16, value []byte) []byte {
	b := binary.LittleEndian.AppendUint16(binary.LittleEndian.AppendUint16(nil, group), number)
	return append(binary.LittleEndian.AppendUint32(b, uint32(len(value))), value...)
}

func pad(uid string) []byte { return []byte(uid + strings.Repeat("\x00", len(uid)%2)) }
