package ul

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/towpath/towpath/proxy/dicom/pdu"
)

// Receive waits for the next message and returns its command set and presentation context. If the command says that a data set
// follows, the caller reads it to its end with Data before anything else. It returns ErrReleased when the peer has ended in order.
// A requestor waits Config.Response for the message to start, an acceptor Config.Quiet.
func (a *Association) Receive(ctx context.Context) (contextID uint8, command []byte, err error) {
	if a.state != Sta6 {
		return 0, nil, ErrEnded
	}
	defer a.conn.use(ctx)()
	if a.role == Requestor {
		a.conn.within("waiting for a response", a.cfg.Response)
	} else {
		a.conn.within("waiting for the next message", a.cfg.Quiet)
	}
	for first := true; ; first = false {
		v, err := a.fragment()
		if err != nil {
			return 0, nil, err
		}
		switch {
		case !v.Command:
			return 0, nil, a.fail(unexpected("a data set fragment where a command should be"))
		case !first && v.ContextID != contextID:
			return 0, nil, a.fail(unexpected("a command changes its presentation context half way"))
		case uint64(len(command))+uint64(v.Length) > uint64(a.cfg.MaxCommand):
			return 0, nil, a.fail(unexpected("a command set is larger than %d bytes", a.cfg.MaxCommand))
		}
		if first {
			contextID = v.ContextID
			a.conn.progress("in the middle of a message", a.cfg.Progress)
		}
		at := len(command)
		command = append(command, make([]byte, v.Length)...)
		if _, err := io.ReadFull(a.r, command[at:]); err != nil {
			return 0, nil, a.fail(err)
		}
		if v.Last {
			return contextID, command, nil
		}
	}
}

// fragment goes to the next presentation data value, in this PDU or the next, and answers a release on the way.
func (a *Association) fragment() (pdu.PDV, error) {
	for {
		if !a.inData {
			action, _, err := a.next()
			if err != nil {
				return pdu.PDV{}, err
			}
			if action == AR2 {
				if err := a.reply(); err != nil {
					return pdu.PDV{}, err
				}
				a.awaitClose()
				return pdu.PDV{}, ErrReleased
			}
		}
		v, err := a.r.NextPDV()
		if errors.Is(err, io.EOF) {
			a.inData = false
			continue
		}
		if err != nil {
			return pdu.PDV{}, a.fail(err)
		}
		if _, ok := a.contexts[v.ContextID]; !ok {
			return pdu.PDV{}, a.fail(unexpected("presentation context %d was not accepted", v.ContextID))
		}
		return v, nil
	}
}

// skipData drops the rest of the current P-DATA-TF.
func (a *Association) skipData() error {
	for {
		_, err := a.r.NextPDV()
		if errors.Is(err, io.EOF) {
			a.inData = false
			return nil
		}
		if err == nil {
			err = a.r.Discard()
		}
		if err != nil {
			return a.fail(err)
		}
	}
}

// DataSet is the data set of the message that is being received, as a stream. It must be read to its end.
type DataSet struct {
	a         *Association
	ctx       context.Context //nolint:containedctx // an io.Reader cannot be handed one
	contextID uint8
	inside    bool // in a fragment
	last      bool // that fragment is the last
	err       error
	n         int64
}

// Data returns the data set that follows the command just received in presentation context contextID. It belongs to this call's
// ctx and must be read to io.EOF before the next call of Receive or Send.
func (a *Association) Data(ctx context.Context, contextID uint8) *DataSet {
	return &DataSet{a: a, ctx: ctx, contextID: contextID}
}

// Len returns how many bytes were read so far.
func (d *DataSet) Len() int64 { return d.n }

// advance goes to the next fragment; io.EOF means that the data set is complete.
func (d *DataSet) advance() error {
	if d.err != nil || d.inside {
		return d.err
	}
	if d.last {
		d.err = io.EOF
		return d.err
	}
	v, err := d.a.fragment()
	switch {
	case errors.Is(err, ErrReleased):
		d.err = &ProtocolError{Reason: pdu.ReasonUnexpectedPDU, Message: "it released the association in the middle of a message"}
	case err != nil:
		d.err = err
	case v.Command:
		d.err = d.a.fail(unexpected("a command fragment inside a data set"))
	case v.ContextID != d.contextID:
		d.err = d.a.fail(unexpected("a data set changes its presentation context"))
	}
	d.inside, d.last = true, v.Last
	return d.err
}

// Read reads the data set across all its fragments.
func (d *DataSet) Read(p []byte) (int, error) {
	defer d.a.conn.use(d.ctx)()
	for {
		if err := d.advance(); err != nil {
			return 0, err
		}
		n, err := d.a.r.Read(p)
		d.n += int64(n)
		if errors.Is(err, io.EOF) {
			d.inside = false
			continue
		}
		if err != nil {
			d.err = d.a.fail(err)
		}
		return n, d.err
	}
}

// WriteTo writes the whole data set to w. An error of w leaves the association in the middle of the message: the caller must read
// on or abort.
func (d *DataSet) WriteTo(w io.Writer) (int64, error) {
	defer d.a.conn.use(d.ctx)()
	start := d.n
	for {
		if err := d.advance(); err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return d.n - start, err
		}
		n, err := d.a.r.WriteTo(w)
		d.n += n
		if broken, ok := errors.AsType[*pdu.ReadError](err); ok {
			d.err = d.a.fail(broken.Err)
			return d.n - start, d.err
		}
		if err != nil {
			return d.n - start, err
		}
		d.inside = false
	}
}

// Send sends one message: a command set and, if data is not nil, the data set that data yields until io.EOF. Fragments are as
// large as the peer takes, the command travels in one write with the first of them, and bytes are passed on as they are. It
// returns the number of data set bytes sent. If data fails, the association is aborted and the error is a *SourceError.
func (a *Association) Send(ctx context.Context, contextID uint8, command []byte, data io.Reader) (int64, error) {
	if _, ok := a.contexts[contextID]; !ok {
		return 0, fmt.Errorf("presentation context %d was not accepted", contextID)
	}
	if _, err := a.step(EvtData); err != nil {
		return 0, err
	}
	defer a.conn.use(ctx)()
	buf := a.out[:0]
	for rest, more := command, true; more; {
		n := min(len(rest), a.sendMax)
		more = n < len(rest)
		buf = appendFragment(buf, pdu.PDV{ContextID: contextID, Command: true, Last: !more, Length: uint32(n)}, rest[:n])
		rest = rest[n:]
	}
	if data == nil {
		a.out = buf
		return 0, a.write(buf)
	}
	return a.sendData(buf, contextID, data)
}

// sendData sends data in fragments; head, already encoded, goes out together with the first one. To know which fragment is the
// last, one byte more than it holds is read ahead, which then starts the next.
func (a *Association) sendData(head []byte, contextID uint8, data io.Reader) (int64, error) {
	need := len(head) + pdu.DataOverhead + a.sendMax + 1
	if cap(head) < need {
		head = append(make([]byte, 0, need), head...)
	}
	buf := head[:need]
	a.out = buf
	var sent int64
	for at, have := len(head), 0; ; at, have = 0, 1 {
		payload := buf[at+pdu.DataOverhead:][:a.sendMax+1]
		n, err := io.ReadFull(data, payload[have:])
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			a.Abort()
			return sent, &SourceError{Err: err}
		}
		n += have
		last := n <= a.sendMax
		n = min(n, a.sendMax)
		pdu.PutDataHeader(buf[at:], pdu.PDV{ContextID: contextID, Last: last, Length: uint32(n)})
		if err := a.write(buf[:at+pdu.DataOverhead+n]); err != nil {
			return sent, err
		}
		sent += int64(n)
		if last {
			return sent, nil
		}
		buf[pdu.DataOverhead] = payload[n]
	}
}

// write sends b. If the peer has gone, its A-ABORT may still be there to be read and explains more than a broken pipe.
func (a *Association) write(b []byte) error {
	_, err := a.conn.Write(b)
	if err == nil {
		return nil
	}
	failed := a.fail(err)
	if !errors.Is(failed, ErrLost) {
		return failed
	}
	a.conn.goodbye(a.cfg.Close)
	for !a.inData {
		h, err := a.r.Next()
		if err != nil || h.Type == pdu.TypeData {
			break
		}
		body, err := a.r.Whole()
		if err != nil {
			break
		}
		if abort, err := pdu.DecodeAbort(body); err == nil {
			return &AbortedError{Abort: abort}
		}
	}
	return failed
}

func appendFragment(b []byte, v pdu.PDV, payload []byte) []byte {
	at := len(b)
	b = append(b, make([]byte, pdu.DataOverhead)...)
	pdu.PutDataHeader(b[at:], v)
	return append(b, payload...)
}
