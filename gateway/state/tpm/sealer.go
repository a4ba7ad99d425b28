package tpm

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/go-tpm/tpm2/transport"
)

const (
	// Name is what state directories call this key store.
	Name = "tpm"
	// DefaultPath is the kernel's TPM device with a resource manager, which lets several programs use the TPM.
	DefaultPath = "/dev/tpmrm0"
	// MaxSecret is how many bytes one sealed secret may have: MAX_SYM_DATA of TPM 2.0 Part 2.
	MaxSecret = 128
)

// patience is how long one operation may take, with the time that others use the TPM. Slow chips need seconds for a key.
const patience = time.Minute

// Errors that callers match.
var (
	// ErrNoTPM means that there is no TPM 2.0 at the path.
	ErrNoTPM = errors.New("there is no TPM 2.0")
	// ErrNoAccess means that this user may not use the TPM.
	ErrNoAccess = errors.New("no access to the TPM")
	// ErrBusy means that other programs did not let go of the TPM.
	ErrBusy = errors.New("the TPM is in use by another program")
	// ErrOwnerPassword means that somebody set a password for the TPM's owner hierarchy.
	ErrOwnerPassword = errors.New("the TPM's owner hierarchy has a password")
	// ErrOtherTPM means that the secret was sealed by another machine's TPM, or by this one before it was cleared.
	ErrOtherTPM = errors.New("sealed by another TPM, or by this one before it was cleared")
	// ErrPCR means that the machine started with other firmware or software than when the secret was sealed.
	ErrPCR = errors.New("this machine started with other firmware or software than the key was sealed for")
	// ErrDamaged means that what was sealed was changed or cut since.
	ErrDamaged = errors.New("the sealed key is damaged")
	// ErrSize means that a secret is empty or longer than MaxSecret.
	ErrSize = errors.New("a secret of this size cannot be sealed")
)

// Sealer seals with one TPM. It may be used by several goroutines, and by several processes at once.
type Sealer struct {
	path     string
	pcrs     pcrs
	patience time.Duration
	mu       sync.Mutex
}

// Open makes sure that a TPM 2.0 answers at path: a device such as /dev/tpmrm0, or the unix socket of a software TPM. Secrets are bound
// to the present values of the PCRs named, which are numbers from 0 to 23 of the SHA-256 bank. Nothing has to be closed.
func Open(path string, pcr ...uint) (*Sealer, error) {
	set, err := pcrsOf(pcr)
	if err != nil {
		return nil, err
	}
	s := &Sealer{path: path, pcrs: set, patience: patience}
	if err := s.with(identify); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// Name is "tpm".
func (s *Sealer) Name() string { return Name }

// Seal encrypts a secret of 1 to MaxSecret bytes. The result has less than a kibibyte.
func (s *Sealer) Seal(secret []byte) ([]byte, error) {
	if len(secret) == 0 || len(secret) > MaxSecret {
		return nil, fmt.Errorf("%w: it has %d bytes, not 1 to %d", ErrSize, len(secret), MaxSecret)
	}
	var b blob
	err := s.with(func(t transport.TPM) error {
		var err error
		b, err = seal(t, s.pcrs, secret)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("seal with the TPM: %w", err)
	}
	return b.encode(), nil
}

// Unseal gives back what Seal took. PCRs are those that the secret was sealed with.
func (s *Sealer) Unseal(sealed []byte) ([]byte, error) {
	b, err := parseBlob(sealed)
	if err != nil {
		return nil, err
	}
	var secret []byte
	err = s.with(func(t transport.TPM) error {
		var err error
		secret, err = unseal(t, b)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("unseal with the TPM: %w", err)
	}
	return secret, nil
}

// with runs one operation. All its commands go through one connection, so that a software TPM, which has room for three objects and no
// resource manager, serves one caller after the other.
func (s *Sealer) with(use func(transport.TPM) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, err := connect(s.path, s.patience)
	if err != nil {
		return err
	}
	defer func() { _ = l.conn.Close() }()
	return use(l)
}
