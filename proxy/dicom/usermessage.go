package dicom

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/towpath/towpath/proxy/dicom/dimse"
)

// message is one message that was received, with its data set.
type message struct {
	context uint8
	set     dimse.Set
	data    []byte
	enc     encoding
}

// send sends a message. After an error the association is gone.
func (u *user) send(ctx context.Context, id uint8, set *dimse.Set, data []byte) error {
	var err error
	if data == nil {
		_, err = u.a.Send(ctx, id, set.Encode(), nil)
	} else {
		_, err = u.a.Send(ctx, id, set.Encode(), bytes.NewReader(data))
	}
	if err != nil {
		u.drop()
		return fmt.Errorf("send to %s: %w", u.calledAE, err)
	}
	u.used = time.Now()
	return nil
}

// receive receives a message. After an error the association is gone.
func (u *user) receive(ctx context.Context, limit int) (message, error) {
	id, command, err := u.a.Receive(ctx)
	var m message
	if err == nil {
		m.context = id
		m.set, err = dimse.Decode(command)
	}
	if err == nil && m.set.HasDataSet() {
		pc, _ := u.a.Context(id)
		m.enc = encodingOf(pc.TransferSyntax)
		m.data, err = readDataSet(ctx, u.a, id, limit)
	}
	if err != nil {
		u.drop()
		return message{}, fmt.Errorf("wait for the answer of %s: %w", u.calledAE, err)
	}
	u.used = time.Now()
	return m, nil
}

func (u *user) responseTo(m message) (dimse.Response, error) {
	resp, err := dimse.ParseResponse(&m.set)
	if err == nil && resp.MessageID != u.message {
		err = fmt.Errorf("%s answered message %d instead of %d", u.calledAE, resp.MessageID, u.message)
	}
	return resp, err
}
