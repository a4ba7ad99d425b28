package main

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/gateway/state"
	"github.com/towpath/towpath/gateway/state/tpm"
	"github.com/towpath/towpath/gateway/state/tpm/tpmtest"
	"github.com/towpath/towpath/provisioning/wire"
)

func TestParseKeyStore(t *testing.T) {
	for text, want := range map[string]struct {
		path string
		pcr  []uint
	}{
		"file":               {},
		"tpm":                {path: "/dev/tpmrm0"},
		"tpm:/run/x":         {path: "/run/x"},
		"tpm,pcr=7":          {path: "/dev/tpmrm0", pcr: []uint{7}},
		"tpm:/run/x,pcr=0+7": {path: "/run/x", pcr: []uint{0, 7}},
	} {
		path, pcr, err := parseKeyStore(text)
		if err != nil || path != want.path || !slices.Equal(pcr, want.pcr) {
			t.Errorf("%s: %s %v, %v", text, path, pcr, err)
		}
	}
	for _, text := range []string{"", "TPM", "tpm:", "hsm", "file:/x", "tpm,", "tpm,pcr=", "tpm,pcr=24", "tpm,pcr=-1", "tpm,pcr=7+", "tpm,7", "tpm,pcr=7,8"} {
		if path, pcr, err := parseKeyStore(text); err == nil {
			t.Errorf("%q was taken for %s %v", text, path, pcr)
		}
	}
}

// boxState makes the state of an enrolled box and returns its directory and its key.
func boxState(t *testing.T) (path, key string) {
	t.Helper()
	pub, signer, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	m, err := wire.Sign(wire.NetMap{Format: wire.Format, Network: wire.NetworkID(pub), Generation: 1}, signer)
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "box")
	d, err := state.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	k, err := d.PendingKey()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.SaveEnrolled(state.Identity{PrivateKey: k, NetworkKey: pub, Node: "node_a", Site: "north", Enrolled: time.Now()}, m); err != nil {
		t.Fatal(err)
	}
	return path, k.RevealText()
}

// keystore runs "towpath keystore ARGS" and returns its exit code and what it said on both outputs.
func keystore(t *testing.T, args ...string) (code int, said string) {
	t.Helper()
	var out bytes.Buffer
	app := &cli.App{Writer: &out, ErrWriter: &out, Commands: []*cli.Command{keystoreCommand()}, ExitErrHandler: func(*cli.Context, error) {}}
	err := app.RunContext(t.Context(), append([]string{"towpath", "keystore"}, args...))
	code = ui.Report(&out, explain(err))
	return code, out.String()
}

// keyIn reads the box's key with the key stores that opts name.
func keyIn(t *testing.T, path string, opts ...state.Option) (string, error) {
	t.Helper()
	d, err := state.Open(path, opts...)
	if err != nil {
		return "", err
	}
	defer func() { _ = d.Close() }()
	id, err := d.Identity()
	return id.PrivateKey.RevealText(), err
}

func TestKeystoreMove(t *testing.T) {
	v := tpmtest.Start(t)
	s, err := tpm.Open(v.Path)
	if err != nil {
		t.Fatal(err)
	}
	path, key := boxState(t)
	move := func(want int, says string, args ...string) {
		t.Helper()
		code, said := keystore(t, append([]string{"move", "--state", path}, args...)...)
		if code != want || !strings.Contains(said, says) {
			t.Fatalf("%v: exit code %d, want %d; it said:\n%s", args, code, want, said)
		}
		if strings.Contains(said, key) {
			t.Fatal("it printed the key")
		}
	}
	move(0, "with --key-store tpm:"+v.Path+".\n", "--key-store", "tpm:"+v.Path)
	if content, err := os.ReadFile(filepath.Join(path, "identity.json")); err != nil || bytes.Contains(content, []byte(key)) {
		t.Fatalf("the key is still in the file, %v", err)
	}
	if _, err := keyIn(t, path); !errors.Is(err, state.ErrKeyStore) {
		t.Errorf("without the TPM: %v", err)
	}
	if got, err := keyIn(t, path, state.WithSealer(s)); err != nil || got != key {
		t.Errorf("another key in the TPM, %v", err)
	}
	// Again, bound to a register, which reading need not name.
	move(0, "with --key-store tpm:"+v.Path+".\n", "--key-store", "tpm:"+v.Path+",pcr=16")
	v.Extend(16, "an update")
	move(1, "hint: start it as it was", "--key-store", "tpm:"+v.Path)
	v.Restart()
	// Back, which needs the TPM, too.
	move(1, "there is no TPM 2.0", "--key-store", "file", "--from", "tpm:"+v.Path+"x")
	move(1, "hint: name it with --key-store", "--key-store", "file", "--from", "file")
	move(0, "Start the gateway without --key-store", "--key-store", "file", "--from", "tpm:"+v.Path)
	if got, err := keyIn(t, path); err != nil || got != key {
		t.Errorf("another key in the file, %v", err)
	}
	// A key store that was lost with the machine's firmware.
	move(0, "", "--key-store", "tpm:"+v.Path)
	v.Clear()
	move(1, `run "towpath node replace"`, "--key-store", "tpm:"+v.Path)
}

func TestKeystoreMoveRefuses(t *testing.T) {
	path, key := boxState(t)
	none := filepath.Join(t.TempDir(), "none")
	for name, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"where to?":     {[]string{"move", "--state", path}, 2, "hint: --key-store tpm"},
		"nonsense":      {[]string{"move", "--state", path, "--key-store", "hsm"}, 2, `"hsm" is no key store`},
		"no TPM":        {[]string{"move", "--state", path, "--key-store", "tpm:" + none}, 1, "hint: turn it on in the firmware's setup"},
		"no box":        {[]string{"move", "--state", none, "--key-store", "file"}, 1, "this box is not enrolled\nhint:"},
		"too much":      {[]string{"move", "--state", path, "--key-store", "file", "x"}, 2, "one argument too many"},
		"no such thing": {[]string{"mv"}, 2, `there is no command "keystore mv"`},
	} {
		code, said := keystore(t, c.args...)
		if code != c.code || !strings.Contains(said, c.says) {
			t.Errorf("%s: exit code %d, want %d; it said:\n%s", name, code, c.code, said)
		}
	}
	gateway, err := state.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	code, said := keystore(t, "move", "--state", path, "--key-store", "file")
	if code != 1 || !strings.Contains(said, "hint: stop the gateway") {
		t.Errorf("while the gateway runs: exit code %d; it said:\n%s", code, said)
	}
	_ = gateway.Close()
	if got, err := keyIn(t, path); err != nil || got != key {
		t.Errorf("what was refused changed the key, %v", err)
	}
}

func TestOpenBox(t *testing.T) {
	v := tpmtest.Start(t)
	path, key := boxState(t)
	open := func(args ...string) error {
		app := &cli.App{
			Flags: []cli.Flag{stateFlag(), keyStoreFlag()}, ExitErrHandler: func(*cli.Context, error) {},
			Action: func(c *cli.Context) error {
				d, err := openBox(c)
				if err != nil {
					return err
				}
				defer func() { _ = d.Close() }()
				id, err := d.Identity()
				if err == nil && id.PrivateKey.RevealText() != key {
					t.Error("another key")
				}
				return errors.Join(err, d.Reseal())
			},
		}
		return app.RunContext(t.Context(), append([]string{"towpath", "--state", path}, args...))
	}
	if err := open(); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TOWPATH_KEY_STORE", "tpm:"+v.Path)
	if err := open(); err != nil {
		t.Fatal(err)
	}
	err := open("--key-store", "file")
	if e, ok := errors.AsType[*ui.Error](err); !ok || !errors.Is(err, state.ErrKeyStore) || !strings.Contains(e.Hint, "--key-store tpm") {
		t.Errorf("sealed, and opened without the TPM: %v", err)
	}
}
