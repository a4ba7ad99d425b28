package dicom

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/dicom/dimse"
	"github.com/towpath/towpath/proxy/dicom/pdu"
	"github.com/towpath/towpath/proxy/dicom/ul"
)

// Gateways tell each other what an archive accepts at the archive's own place on the overlay: by an N-ACTION of a private SOP class, which
// the gateway in front of the archive answers itself. Its data sets, in Implicit VR Little Endian, have one private element with JSON. An
// archive without such a gateway refuses the presentation context, and so does a gateway that is older.
const (
	twinClass    = "2.25.249658263965726693280329307414425150622" // from a UUID (PS3.5 §B.2)
	twinInstance = twinClass + ".1"
	twinAction   = 1

	twinCreator    = "TOWPATH TWIN"
	tagTwinCreator = 0x0099_0010
	tagTwinJSON    = 0x0099_1001
	maxTwinAnswer  = maxCapabilities + 4<<10
	// twinRefresh bounds how long a question waits for the archive.
	twinRefresh = 2 * time.Minute
)

// twinQuestion is what a gateway asks.
type twinQuestion struct {
	// Have is when what it knows was found out.
	Have time.Time `json:"have,omitzero"`
	// Fresh asks for a new probe.
	Fresh bool `json:"fresh,omitempty"`
	// Want are SOP classes that came up and were never asked for.
	Want []string `json:"want,omitempty"`
}

// twinAnswer is what it gets: the newest Capabilities unless it has them; or why there are none.
type twinAnswer struct {
	Capabilities *Capabilities `json:"capabilities,omitempty"`
	Problem      string        `json:"problem,omitempty"`
}

// ErrNoTwin means that at the other end nobody speaks of what the archive accepts.
var ErrNoTwin = errors.New("the gateway in front of the archive does not tell what it accepts: it may be older, or there is none")

// FetchConfig says whom to ask.
type FetchConfig struct {
	Network proxy.Network
	// Target is the archive's place on the overlay.
	Target   string
	CalledAE string
	// Fresh asks for a new probe of the archive.
	Fresh  bool
	Limits Limits
	// Log may be nil.
	Log *slog.Logger
}

// Fetch brings t up to date from the gateway in front of the archive. Errors are sentences for a technician; ErrNoTwin is one of them.
func (t *Twin) Fetch(ctx context.Context, cfg FetchConfig) error {
	q := twinQuestion{Fresh: cfg.Fresh, Want: t.Wanted()}
	if c := t.Capabilities(); c != nil {
		q.Have = c.Probed
	}
	a, err := ask(ctx, cfg, q)
	switch {
	case err != nil:
		return err
	case a.Capabilities != nil:
		t.Set(a.Capabilities)
		return nil
	case a.Problem != "":
		return errors.New(printableLong(a.Problem))
	case t.Capabilities() == nil:
		return errors.New("the gateway in front of the archive answered nothing")
	}
	t.Set(t.Capabilities()) // still true
	return nil
}

// ask sends the question.
func ask(ctx context.Context, cfg FetchConfig, q twinQuestion) (twinAnswer, error) {
	k := asker{user: newUser(cfg.Network, cfg.Target, cfg.CalledAE, cfg.Limits, cfg.Log)}
	about := kind{class: twinClass, syntax: ImplicitLittleEndian}
	if err := k.open(ctx, DefaultCallingAE, []kind{about}); err != nil {
		if isA[*ul.RejectedError](err) {
			return twinAnswer{}, fmt.Errorf("%w (%w)", ErrNoTwin, err)
		}
		return twinAnswer{}, err
	}
	defer k.release(ctx)
	id, err := k.accepted(about)
	if err != nil {
		return twinAnswer{}, ErrNoTwin
	}
	set := dimse.ActionRQ{MessageID: k.nextMessage(), SOPClass: twinClass, SOPInstance: twinInstance, Action: twinAction}.Set()
	b, err := json.Marshal(q)
	if err != nil {
		return twinAnswer{}, fmt.Errorf("encode the question: %w", err)
	}
	if err := k.send(ctx, id, &set, wrapTwin(b)); err != nil {
		return twinAnswer{}, err
	}
	m, err := k.receive(ctx, maxTwinAnswer)
	if err != nil {
		return twinAnswer{}, err
	}
	if resp, err := k.responseTo(m); err != nil || resp.Status != dimse.Success {
		return twinAnswer{}, fmt.Errorf("%w (status %v)", ErrNoTwin, resp.Status)
	}
	var a twinAnswer
	if err := json.Unmarshal(unwrapTwin(m.data), &a); err != nil {
		return twinAnswer{}, fmt.Errorf("read the answer about what %s accepts: %w", cfg.CalledAE, err)
	}
	if a.Capabilities != nil {
		return a, a.Capabilities.check()
	}
	return a, nil
}

func wrapTwin(b []byte) []byte {
	return appendElement(appendElement(nil, tagTwinCreator, []byte(twinCreator), ' '), tagTwinJSON, b, ' ')
}

func unwrapTwin(b []byte) []byte {
	for s := (elements{b: b, enc: encoding{order: binary.LittleEndian}}); ; {
		e, err := s.next()
		if err != nil {
			return nil
		}
		if e.tag == tagTwinJSON {
			return bytes.TrimRight(e.value, " ")
		}
	}
}

// asksTwin reports whether an association is a gateway's question and nothing else.
func asksTwin(rq *pdu.AssociateRQ) bool {
	return len(rq.Contexts) == 1 && rq.Contexts[0].AbstractSyntax == twinClass &&
		slices.Contains(rq.Contexts[0].TransferSyntaxes, ImplicitLittleEndian)
}

// answerTwin serves such an association.
func (r *Router) answerTwin(ctx context.Context, in *ul.Incoming, t *Twin, res proxy.Result) proxy.Result {
	a, err := in.Accept(ctx, []pdu.AcceptedContext{{ID: in.RQ.Contexts[0].ID, TransferSyntax: ImplicitLittleEndian}})
	for err == nil {
		var id uint8
		var command []byte
		if id, command, err = a.Receive(ctx); err == nil {
			err = twinMessage(ctx, a, id, command, t)
		}
	}
	return ended(res, err)
}

func twinMessage(ctx context.Context, a *ul.Association, id uint8, command []byte, t *Twin) error {
	set, err := dimse.Decode(command)
	if err != nil || set.CommandField() != dimse.NActionRQ || !set.HasDataSet() {
		a.Abort()
		return &ul.ProtocolError{Reason: pdu.ReasonNotSpecified, Message: "it does not ask what a gateway asks"}
	}
	data, err := readDataSet(ctx, a, id, maxTwinAnswer)
	if err != nil {
		return err
	}
	var q twinQuestion
	if err := json.Unmarshal(unwrapTwin(data), &q); err != nil {
		a.Abort()
		return &ul.ProtocolError{Reason: pdu.ReasonNotSpecified, Message: "its question cannot be read"}
	}
	b, err := json.Marshal(t.answer(ctx, q))
	if err != nil {
		return fmt.Errorf("encode the answer to a gateway: %w", err)
	}
	resp := dimse.Respond(&set, dimse.Success, "").WithDataSet()
	_, err = a.Send(ctx, id, resp.Encode(), io.Reader(bytes.NewReader(wrapTwin(b))))
	return err
}

// answer says what is known, after a new probe if that is asked for.
func (t *Twin) answer(ctx context.Context, q twinQuestion) twinAnswer {
	t.want(q.Want[:min(len(q.Want), maxWantedClasses)]...)
	if q.Fresh || t.Capabilities() == nil {
		ctx, cancel := context.WithTimeout(ctx, twinRefresh)
		defer cancel()
		if err := t.Refresh(ctx); err != nil {
			return twinAnswer{Problem: err.Error()}
		}
	}
	c := t.Capabilities()
	if c == nil || c.Probed.Equal(q.Have) {
		return twinAnswer{}
	}
	return twinAnswer{Capabilities: c}
}

// printableLong is printable for a sentence: 400 characters at most.
func printableLong(s string) string {
	b := []byte(s)
	b = b[:min(len(b), 400)]
	for i, c := range b {
		if c < ' ' || c > '~' {
			b[i] = '?'
		}
	}
	return string(b)
}
