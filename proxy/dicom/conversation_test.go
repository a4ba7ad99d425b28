package dicom_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/dicom"
	"github.com/towpath/towpath/proxy/dicom/dimse"
	"github.com/towpath/towpath/proxy/dicom/pdu"
	"github.com/towpath/towpath/proxy/dicom/ul"
	"github.com/towpath/towpath/proxy/proxytest"
)

// turn is one message of a conversation: up from the device to the far side, or down.
type turn struct {
	up   bool
	set  dimse.Set
	data string // empty for none
}

func up(c dimse.Command, data string, fields ...uint16) turn {
	return turn{true, anySet(c, data, fields), data}
}

func down(c dimse.Command, data string, fields ...uint16) turn {
	return turn{false, anySet(c, data, fields), data}
}

// anySet is a command set with any fields: pairs of element number and value.
func anySet(c dimse.Command, data string, fields []uint16) dimse.Set {
	var s dimse.Set
	s.SetUI(dimse.TagAffectedSOPClass, "1.2.840.10008.3.1.2.3.3")
	s.SetUS(dimse.TagCommandField, uint16(c))
	s.SetUS(dimse.TagDataSetType, map[bool]uint16{true: 0x0101, false: 0x0001}[data == ""])
	for i := 0; i < len(fields); i += 2 {
		s.SetUS(dimse.Tag(fields[i]), fields[i+1])
	}
	return s
}

const (
	id        = uint16(dimse.TagMessageID)
	responds  = uint16(dimse.TagMessageIDResponded)
	status    = uint16(dimse.TagStatus)
	remaining = uint16(0x1020)
	completed = uint16(0x1021)
	rsp       = dimse.Command(0x8000)
)

// bridge is an association from a device through a pass-through route to the far side, with both of its ends in hand.
func bridge(t *testing.T) (near, far *ul.Association) {
	t.Helper()
	n := proxytest.NewNetwork()
	accepted := make(chan *ul.Association, 1)
	hold := make(chan struct{})
	target, _ := serve(t, n, proxy.HandlerFunc(func(ctx context.Context, c net.Conn) proxy.Result {
		in, err := ul.Receive(ctx, c, ul.Config{Close: time.Millisecond})
		if err != nil {
			t.Error(err)
			return proxy.Result{}
		}
		a, err := in.Accept(ctx, []pdu.AcceptedContext{{ID: 1, TransferSyntax: implicit}})
		if err != nil {
			t.Error(err)
		}
		accepted <- a
		<-hold
		return proxy.Result{}
	}))
	t.Cleanup(func() { close(hold) })
	r, err := dicom.NewRouter(dicom.RouterConfig{Routes: []dicom.Route{{Mode: dicom.PassThrough, Network: n, Target: target}}})
	if err != nil {
		t.Fatal(err)
	}
	address, _ := serve(t, n, r)
	near = associate(t, n, address, "RIS", context1("1.2.840.10008.3.1.2.3.3", implicit))
	return near, <-accepted
}

// TestConversationsCross plays whole services between two peers through a pass-through route. Every command set and data set must arrive
// as it was sent, in both directions, at once: the next turn is only taken when the last one has arrived.
func TestConversationsCross(t *testing.T) {
	for name, turns := range map[string][]turn{
		"C-ECHO": {up(dimse.CEchoRQ, "", id, 1), down(dimse.CEchoRSP, "", responds, 1, status, 0)},
		"C-FIND that is canceled": {
			up(dimse.CFindRQ, "keys", id, 2),
			down(dimse.CFindRQ|rsp, "match one", responds, 2, status, 0xFF00), down(dimse.CFindRQ|rsp, "match two", responds, 2, status, 0xFF01),
			up(dimse.CCancelRQ, "", responds, 2), down(dimse.CFindRQ|rsp, "", responds, 2, status, 0xFE00),
		},
		"C-GET with sub-operations": {
			up(dimse.CGetRQ, "keys", id, 3),
			down(dimse.CStoreRQ, strings.Repeat("pixels", 50_000), id, 1), up(dimse.CStoreRSP, "", responds, 1, status, 0),
			down(dimse.CGetRQ|rsp, "", responds, 3, status, 0xFF00, remaining, 1, completed, 1),
			down(dimse.CStoreRQ, "more", id, 2), up(dimse.CStoreRSP, "", responds, 2, status, 0xA700),
			down(dimse.CGetRQ|rsp, "failed list", responds, 3, status, 0xB000, completed, 1),
		},
		"C-MOVE that is canceled": {
			up(dimse.CMoveRQ, "keys", id, 4), down(dimse.CMoveRQ|rsp, "", responds, 4, status, 0xFF00, remaining, 9),
			up(dimse.CCancelRQ, "", responds, 4), down(dimse.CMoveRQ|rsp, "failed list", responds, 4, status, 0xFE00, remaining, 8),
		},
		"MPPS that is there already": {
			up(dimse.NCreateRQ, "in progress", id, 5), down(dimse.NCreateRQ|rsp, "as created", responds, 5, status, 0),
			up(dimse.NCreateRQ, "in progress", id, 6), down(dimse.NCreateRQ|rsp, "", responds, 6, status, 0x0111),
			up(dimse.NSetRQ, "completed", id, 7), down(dimse.NSetRQ|rsp, "", responds, 7, status, 0),
			up(dimse.NSetRQ, "completed again", id, 8), down(dimse.NSetRQ|rsp, "", responds, 8, status, 0x0110),
		},
		"storage commitment on the same association": {
			up(dimse.NActionRQ, "references", id, 9), down(dimse.NEventReportRQ, "result", id, 1, 0x1002, 2),
			up(dimse.NEventReportRQ|rsp, "", responds, 1, status, 0), down(dimse.NActionRQ|rsp, "", responds, 9, status, 0),
		},
		"services that nobody knows": {
			up(dimse.NGetRQ, "", id, 10), down(dimse.NGetRQ|rsp, "attributes", responds, 10, status, 0x0107),
			up(dimse.NDeleteRQ, "", id, 11), down(dimse.NDeleteRQ|rsp, "", responds, 11, status, 0x0112),
			up(0x0777, "whatever", id, 12), down(0x8777, "so what", responds, 12, status, 0x0211),
		},
		"requests side by side": {
			up(dimse.CFindRQ, "one", id, 13), up(dimse.CFindRQ, "two", id, 14),
			down(dimse.CFindRQ|rsp, "", responds, 14, status, 0), down(dimse.CFindRQ|rsp, "", responds, 13, status, 0),
		},
	} {
		t.Run(name, func(t *testing.T) {
			near, far := bridge(t)
			for i, m := range turns {
				from, to := near, far
				if !m.up {
					from, to = far, near
				}
				sent := make(chan error, 1)
				go func() {
					var data io.Reader
					if m.data != "" {
						data = strings.NewReader(m.data)
					}
					_, err := from.Send(t.Context(), 1, m.set.Encode(), data)
					sent <- err
				}()
				_, got, err := to.Receive(t.Context())
				if err != nil {
					t.Fatalf("turn %d: %v", i, err)
				}
				if !bytes.Equal(got, m.set.Encode()) {
					t.Fatalf("turn %d: the command set arrives changed", i)
				}
				if m.data != "" {
					b, err := io.ReadAll(to.Data(t.Context(), 1))
					if err != nil || string(b) != m.data {
						t.Fatalf("turn %d: the data set arrives changed, %v", i, err)
					}
				}
				if err := <-sent; err != nil {
					t.Fatal(err)
				}
			}
			done := make(chan error, 1)
			go func() {
				_, _, err := far.Receive(t.Context())
				done <- err
			}()
			if err := near.Release(t.Context()); err != nil {
				t.Error(err)
			}
			<-done
		})
	}
}
