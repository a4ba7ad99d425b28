package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/gateway/state"
	"github.com/towpath/towpath/gateway/state/tpm"
)

const keyStoreHint = "file, tpm, tpm:PATH, or with PCRs: tpm:PATH,pcr=7+14"

// keyStoreFlag is of all commands that open a box's state.
func keyStoreFlag() cli.Flag {
	return &cli.StringFlag{
		Name: "key-store", Value: state.FileStore, EnvVars: []string{"TOWPATH_KEY_STORE"},
		Usage: "where this box's keys are kept, as `STORE`: file, or tpm, which is tpm:" + tpm.DefaultPath + ", for a TPM 2.0",
	}
}

// sealerOf opens the key store that was asked for; nil is the file.
func sealerOf(c *cli.Context) (state.Sealer, error) { return openKeyStore(c, "key-store") }

func openKeyStore(c *cli.Context, flag string) (state.Sealer, error) {
	path, pcr, err := parseKeyStore(c.String(flag))
	if err != nil {
		return nil, ui.Usagef(keyStoreHint, "--%s %w", flag, err)
	}
	if path == "" {
		return nil, nil //nolint:nilnil // no key store is one of the choices
	}
	s, err := tpm.Open(path, pcr...)
	if err != nil {
		return nil, explainKeyStore(err)
	}
	return s, nil
}

// parseKeyStore reads file, tpm, tpm:PATH, and both of the latter with ",pcr=NUMBER+NUMBER" behind. The path is empty for file.
func parseKeyStore(text string) (path string, pcr []uint, err error) {
	if text == state.FileStore {
		return "", nil, nil
	}
	store, list, bound := strings.Cut(text, ",")
	name, path, named := strings.Cut(store, ":")
	if !named {
		path = tpm.DefaultPath
	}
	if name != tpm.Name || path == "" {
		return "", nil, fmt.Errorf("%q is no key store", text)
	}
	if !bound {
		return path, nil, nil
	}
	numbers, ok := strings.CutPrefix(list, "pcr=")
	for n := range strings.SplitSeq(numbers, "+") {
		number, err := strconv.ParseUint(n, 10, 8)
		if !ok || err != nil || number > 23 {
			return "", nil, fmt.Errorf("%q: %q does not say which PCRs, which have numbers from 0 to 23", text, list)
		}
		pcr = append(pcr, uint(number))
	}
	return path, pcr, nil
}

// openBox opens the state of --state with the keys of --key-store.
func openBox(c *cli.Context) (*state.Dir, error) {
	s, err := sealerOf(c)
	if err != nil {
		return nil, err
	}
	return openKeyed(c.String("state"), state.WithSealer(s))
}

func openKeyed(path string, opts ...state.Option) (*state.Dir, error) {
	d, err := state.Open(path, opts...)
	switch {
	case errors.Is(err, state.ErrLocked):
		return nil, ui.Hint(err, "stop the gateway that runs with this --state first")
	case errors.Is(err, os.ErrPermission):
		return nil, ui.Hint(err, "run as root, or choose another --state")
	case err != nil:
		return nil, explainKeyStore(err)
	}
	return d, nil
}

// explainKeyStore adds to the errors of key stores what to do. Others it returns as they are.
func explainKeyStore(err error) error {
	if _, explained := errors.AsType[*ui.Error](err); explained {
		return err
	}
	for _, e := range []struct {
		is   error
		hint string
	}{
		{state.ErrKeyStore, "name it with --key-store or TOWPATH_KEY_STORE, as when the keys were moved there: --key-store tpm"},
		{tpm.ErrOtherTPM, `this box's key is lost with the other TPM: run "towpath node replace" at the coordinator and enroll this box anew with an empty --state`},
		{tpm.ErrPCR, "start it as it was when the key was sealed, and move the keys to --key-store tpm without pcr= before the next update; " +
			`if that is past, run "towpath node replace" at the coordinator`},
		{tpm.ErrDamaged, `restore the state directory from this machine's backup, or run "towpath node replace" at the coordinator`},
		{tpm.ErrNoAccess, "run as root, or add this user to the device's group (tss on Debian); a systemd unit needs DeviceAllow= for it"},
		{tpm.ErrBusy, "stop the other program, or use " + tpm.DefaultPath + ", which several programs can"},
		{tpm.ErrOwnerPassword, `remove the password ("tpm2_changeauth -c owner"), or clear the TPM in the firmware's setup if nothing else needs it`},
		{tpm.ErrNoTPM, "turn it on in the firmware's setup (fTPM, PTT), name another device with --key-store tpm:PATH, or use --key-store file"},
	} {
		if errors.Is(err, e.is) {
			return ui.Hint(err, "%s", e.hint)
		}
	}
	return err
}

func keystoreCommand() *cli.Command {
	return group("keystore", "where this box's keys are kept",
		&cli.Command{
			Name: "move", Usage: "move the keys of a stopped box into the TPM, or back to the file",
			Description: `Seals all keys of the box with the key store of --key-store, and removes none of its files. The box is the same to everybody
afterwards. Start its gateway with the same --key-store from then on.

With ",pcr=NUMBER+NUMBER" the TPM gives the keys out only while those registers are as they are now. Updates of the firmware or of the
image change them: move the keys to --key-store tpm before an update, or the box needs a new identity after it.

Example:
  towpath keystore move --key-store tpm`,
			Flags: []cli.Flag{
				stateFlag(), keyStoreFlag(),
				&cli.StringFlag{Name: "from", Value: tpm.Name, Usage: "`STORE` where the keys are now, if that is a TPM at another path"},
			},
			Action: func(c *cli.Context) error {
				if _, err := args(c); err != nil {
					return err
				}
				if !c.IsSet("key-store") {
					return ui.Usagef("--key-store tpm, or --key-store file for back", "--key-store does not say where to move the keys")
				}
				return moveKeys(c)
			},
		},
	)
}

func moveKeys(c *cli.Context) error {
	to, err := sealerOf(c)
	if err != nil {
		return err
	}
	path := c.String("state")
	d, err := openKeyed(path, state.WithSealer(to))
	if errors.Is(err, state.ErrKeyStore) {
		from, fromErr := openKeyStore(c, "from")
		if fromErr != nil {
			return fromErr
		}
		if from == nil {
			return err
		}
		d, err = openKeyed(path, state.WithSealer(to), state.WithUnsealer(from))
	}
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	if err := d.Reseal(); err != nil {
		if errors.Is(err, state.ErrNotEnrolled) {
			return ui.Hint(err, "name its directory with --state; a box that is not enrolled yet takes --key-store with \"towpath enroll\"")
		}
		return explainKeyStore(fmt.Errorf("move the keys: %w", err))
	}
	if to == nil {
		fmt.Fprintf(c.App.Writer, "The keys of %s are in its files now. Start the gateway without --key-store.\n", path)
		return nil
	}
	fmt.Fprintf(c.App.Writer, "The keys of %s are sealed by the TPM now. Start the gateway with --key-store %s.\n", path, withoutPCRs(c.String("key-store")))
	return nil
}

// withoutPCRs is what is needed to read: what is sealed knows its PCRs.
func withoutPCRs(store string) string {
	store, _, _ = strings.Cut(store, ",")
	return store
}
