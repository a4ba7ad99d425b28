package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/gateway/control"
	"github.com/towpath/towpath/gateway/state"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// waiter tells a person what an enrolment waits for, and tells each thing once.
type waiter struct {
	w io.Writer
	// message is what the coordinator has said last, and lost is set while it does not answer.
	message string
	lost    bool
}

// enroll enrolls, and waits if it has to.
func (t *waiter) enroll(ctx context.Context, ways control.Ways, tok wire.Token, key wgkey.PrivateKey, facts wire.Facts) (control.Enrolled, error) {
	pub, err := key.Public()
	if err != nil {
		return control.Enrolled{}, fmt.Errorf("derive the public key: %w", err)
	}
	e, err := control.EnrollPatiently(ctx, ways, tok, key, facts, func(reason error) { t.tell(pub, reason) })
	if err != nil && ctx.Err() != nil && t.message != "" {
		// An orderly end, but this box is not what the command was to make of it.
		return e, &ui.Error{Err: errStillWaiting, Hint: "run the same command again to go on waiting", Code: ui.ExitUnhealthy}
	}
	return e, err
}

// errStillWaiting does not wrap the end of the context, which would count as done.
var errStillWaiting = errors.New("not enrolled yet")

func (t *waiter) tell(key wgkey.PublicKey, reason error) {
	wait, waits := errors.AsType[*control.WaitError](reason)
	switch {
	case !waits && !t.lost:
		t.lost = true
		fmt.Fprintf(t.w, "The coordinator does not answer at the moment, and this goes on trying: %v\n", reason)
	case waits && t.message == "":
		fmt.Fprintf(t.w, "The token is good: %s.\n%s\nWaiting. Ctrl-C ends it, and the same command goes on with it.\n", wait.Message, howToApprove(key))
	case waits && (t.lost || t.message != wait.Message):
		fmt.Fprintf(t.w, "The coordinator answers: %s.\n", wait.Message)
	}
	if waits {
		t.message, t.lost = wait.Message, false
	}
}

// howToApprove is what the person at the box tells the one at the center.
func howToApprove(key wgkey.PublicKey) string {
	return fmt.Sprintf(`Call the center and compare the key of this box, of which they must see the same:

    %s

They find it with "towpath node list". "towpath node show" says what it waits for: approval ("towpath node approve"), or the signature of the
network's offline key ("towpath coordinator unsigned").`, wire.KeyPrint(key))
}

type waitingJSON struct {
	Waiting  bool   `json:"waiting"`
	Message  string `json:"message"`
	KeyPrint string `json:"key_print"`
}

// stillWaits ends a command that shall not wait.
func stillWaits(c *cli.Context, dir *state.Dir, reason error) error {
	key, err := dir.PendingKey()
	if err != nil {
		return err
	}
	pub, err := key.Public()
	if err != nil {
		return fmt.Errorf("derive the public key: %w", err)
	}
	v := waitingJSON{Waiting: true, Message: reason.Error(), KeyPrint: wire.KeyPrint(pub)}
	if err := show(c, v, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "The token is good: %s.\n%s\nThen run the same command again.\n", v.Message, howToApprove(pub))
		return err
	}); err != nil {
		return err
	}
	return ui.Silent(ui.ExitUnhealthy)
}
