package tpm

import (
	"bytes"
	"errors"
	"fmt"
	"math/bits"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

const (
	// family2 is what a TPM 2.0 says of itself: "2.0" (TPM 2.0 Part 2, TPM_PT_FAMILY_INDICATOR).
	family2 = 0x322e3000
	// nonceSize of our sessions in bytes.
	nonceSize = 16
	// cipherBits is the key length of AES that every TPM 2.0 for PCs has.
	cipherBits = 128
)

// identify makes sure that a TPM 2.0 answers.
func identify(t transport.TPM) error {
	r, err := tpm2.GetCapability{
		Capability: tpm2.TPMCapTPMProperties, Property: uint32(tpm2.TPMPTFamilyIndicator), PropertyCount: 1,
	}.Execute(t)
	if errors.Is(err, ErrBusy) || errors.Is(err, ErrNoTPM) {
		return err
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoTPM, err)
	}
	p, err := r.CapabilityData.Data.TPMProperties()
	if err != nil || len(p.TPMProperty) == 0 || p.TPMProperty[0].Value != family2 {
		return fmt.Errorf("%w: it has another version", ErrNoTPM)
	}
	return nil
}

// storageKey is the primary key that secrets are sealed under, loaded.
type storageKey struct {
	handle tpm2.TPMHandle
	public tpm2.TPMTPublic
	// name is the digest of public, made here and not by the TPM.
	name tpm2.TPM2BName
}

// auth authorizes the use of the key, whose password is empty, in a session.
func (k storageKey) auth(s tpm2.Session) tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: k.handle, Name: k.name, Auth: s}
}

// withStorageKey makes the storage key, which is the same each time, and flushes it afterwards.
func withStorageKey(t transport.TPM, use func(storageKey) error) (err error) {
	r, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(t)
	if errors.Is(err, tpm2.TPMRCAuthFail) || errors.Is(err, tpm2.TPMRCBadAuth) {
		return ErrOwnerPassword
	}
	if err != nil {
		return fmt.Errorf("make the storage key: %w", err)
	}
	defer flush(t, r.ObjectHandle, &err)
	public, err := r.OutPublic.Contents()
	if err != nil {
		return fmt.Errorf("read the storage key: %w", err)
	}
	name, err := tpm2.ObjectName(public)
	if err != nil {
		return fmt.Errorf("name the storage key: %w", err)
	}
	return use(storageKey{r.ObjectHandle, *public, *name})
}

// withSession opens a session that nobody on the bus can read or change, and ends it afterwards. encrypt says which way a parameter goes
// encrypted.
func withSession(t transport.TPM, k storageKey, encrypt tpm2.AuthOption, use func(tpm2.Session) error) (err error) {
	s, _, err := tpm2.HMACSession(t, tpm2.TPMAlgSHA256, nonceSize, tpm2.Salted(k.handle, k.public), encrypt)
	if err != nil {
		return fmt.Errorf("open a session: %w", err)
	}
	defer flush(t, s.Handle(), &err)
	return use(s)
}

// withPolicy is withSession for what is bound to PCRs.
func withPolicy(t transport.TPM, p pcrs, use func(tpm2.Session) error, opts ...tpm2.AuthOption) (err error) {
	s, _, err := tpm2.PolicySession(t, tpm2.TPMAlgSHA256, nonceSize, opts...)
	if err != nil {
		return fmt.Errorf("open a policy session: %w", err)
	}
	defer flush(t, s.Handle(), &err)
	if _, err := (tpm2.PolicyPCR{PolicySession: s.Handle(), Pcrs: p.selection()}).Execute(t); err != nil {
		return fmt.Errorf("bind to PCRs: %w", err)
	}
	return use(s)
}

// flush takes an object or session out of the TPM, which has room for few. It reports its failure if there was no other.
func flush(t transport.TPM, h tpm2.TPMHandle, err *error) {
	if _, e := (tpm2.FlushContext{FlushHandle: h}).Execute(t); e != nil && *err == nil {
		*err = fmt.Errorf("clear the TPM's memory: %w", e)
	}
}

// seal makes a sealed data object.
func seal(t transport.TPM, p pcrs, secret []byte) (b blob, err error) {
	template := tpm2.TPMTPublic{
		Type: tpm2.TPMAlgKeyedHash, NameAlg: tpm2.TPMAlgSHA256,
		// Not subject to the lockout after wrong passwords: it has none. A policy, if there is one, is the only way to it.
		ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, NoDA: true, UserWithAuth: p == 0},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgKeyedHash, &tpm2.TPMSKeyedHashParms{
			Scheme: tpm2.TPMTKeyedHashScheme{Scheme: tpm2.TPMAlgNull},
		}),
	}
	if template.AuthPolicy, err = p.policy(t); err != nil {
		return blob{}, err
	}
	err = withStorageKey(t, func(k storageKey) error {
		return withSession(t, k, tpm2.AESEncryption(cipherBits, tpm2.EncryptIn), func(s tpm2.Session) error {
			r, err := tpm2.Create{
				ParentHandle: k.auth(s),
				InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{
					Data: tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: secret}),
				}},
				InPublic: tpm2.New2B(template),
			}.Execute(t)
			if err != nil {
				return fmt.Errorf("make a sealed object: %w", err)
			}
			b = blob{pcrs: p, parent: k.name.Buffer, public: r.OutPublic.Bytes(), private: r.OutPrivate.Buffer}
			return nil
		})
	})
	return b, err
}

// unseal loads a sealed data object and asks for what is in it.
func unseal(t transport.TPM, b blob) (secret []byte, err error) {
	err = withStorageKey(t, func(k storageKey) error {
		// Before anything is encrypted to this key: who sits on the bus cannot put in one of his own.
		if !bytes.Equal(k.name.Buffer, b.parent) {
			return ErrOtherTPM
		}
		return withLoaded(t, k, b, func(handle tpm2.TPMHandle, name tpm2.TPM2BName) error {
			ask := func(s tpm2.Session) error {
				r, err := tpm2.Unseal{ItemHandle: tpm2.AuthHandle{Handle: handle, Name: name, Auth: s}}.Execute(t)
				if errors.Is(err, tpm2.TPMRCPolicyFail) {
					return ErrPCR
				}
				if err != nil {
					return fmt.Errorf("open a sealed object: %w", err)
				}
				secret = r.OutData.Buffer
				return nil
			}
			out := tpm2.AESEncryption(cipherBits, tpm2.EncryptOut)
			if b.pcrs != 0 {
				return withPolicy(t, b.pcrs, ask, tpm2.Salted(k.handle, k.public), out)
			}
			return withSession(t, k, out, ask)
		})
	})
	return secret, err
}

// withLoaded loads a sealed data object and flushes it afterwards.
func withLoaded(t transport.TPM, k storageKey, b blob, use func(tpm2.TPMHandle, tpm2.TPM2BName) error) (err error) {
	var r *tpm2.LoadResponse
	err = withSession(t, k, tpm2.AESEncryption(cipherBits, tpm2.EncryptIn), func(s tpm2.Session) error {
		var err error
		r, err = tpm2.Load{
			ParentHandle: k.auth(s), InPrivate: tpm2.TPM2BPrivate{Buffer: b.private},
			InPublic: tpm2.BytesAs2B[tpm2.TPMTPublic](b.public),
		}.Execute(t)
		return err
	})
	// The storage key is the right one, so an object that the TPM does not take is not what it gave out.
	if code, ok := errors.AsType[tpm2.TPMRC](err); ok && !code.IsWarning() {
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if r != nil {
		defer flush(t, r.ObjectHandle, &err)
	}
	if err != nil {
		return err
	}
	return use(r.ObjectHandle, r.Name)
}

// pcrs are platform configuration registers of the SHA-256 bank, one bit each. Zero is none.
type pcrs uint32

// pcrCount is how many registers a PC's TPM has (TCG PC Client Platform TPM Profile).
const pcrCount = 24

func pcrsOf(numbers []uint) (pcrs, error) {
	var p pcrs
	for _, n := range numbers {
		if n >= pcrCount {
			return 0, fmt.Errorf("there is no PCR %d: they have numbers from 0 to %d", n, pcrCount-1)
		}
		p |= 1 << n
	}
	return p, nil
}

func (p pcrs) numbers() []uint {
	numbers := make([]uint, 0, pcrCount)
	for rest := uint32(p); rest != 0; rest &= rest - 1 {
		numbers = append(numbers, uint(bits.TrailingZeros32(rest)))
	}
	return numbers
}

func (p pcrs) selection() tpm2.TPMLPCRSelection {
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{
		Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(p.numbers()...),
	}}}
}

// policy is the digest that binds an object to the present values of p; empty for none.
func (p pcrs) policy(t transport.TPM) (tpm2.TPM2BDigest, error) {
	if p == 0 {
		return tpm2.TPM2BDigest{}, nil
	}
	// A TPM leaves registers out that its bank does not have, without a word: a policy of those would be kept by any machine.
	for _, n := range p.numbers() {
		r, err := tpm2.PCRRead{PCRSelectionIn: pcrs(1 << n).selection()}.Execute(t)
		if err != nil {
			return tpm2.TPM2BDigest{}, fmt.Errorf("read PCR %d: %w", n, err)
		}
		if len(r.PCRValues.Digests) != 1 {
			return tpm2.TPM2BDigest{}, fmt.Errorf("this TPM has no PCR %d in a SHA-256 bank", n)
		}
	}
	var digest tpm2.TPM2BDigest
	err := withPolicy(t, p, func(s tpm2.Session) error {
		r, err := tpm2.PolicyGetDigest{PolicySession: s.Handle()}.Execute(t)
		if err != nil {
			return fmt.Errorf("compute the policy of PCRs: %w", err)
		}
		digest = r.PolicyDigest
		return nil
	}, tpm2.Trial())
	return digest, err
}
