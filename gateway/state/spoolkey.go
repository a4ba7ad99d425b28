package state

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/towpath/towpath/proxy/spool/seal"
)

// CoordinatorStore is the name of keys that are with the coordinator and not on this box.
const CoordinatorStore = "coordinator"

const (
	spoolKeyFormat  = 1
	receiptsKeySize = 32 // bytes
)

// SpoolKey is a key pair that queues are sealed to.
type SpoolKey struct {
	Public seal.PublicKey
	// Private is the zero value if it is with the coordinator.
	Private seal.PrivateKey
	// Store says where it is: FileStore, the name of a key store, or CoordinatorStore.
	Store string
	Made  time.Time
}

// spoolKeysJSON is the file, newest key first.
type spoolKeysJSON struct {
	Format int            `json:"format"`
	Keys   []spoolKeyJSON `json:"keys"`
	// Receipts is the key of the journal of receipts, a text of Dir.keepSecret; empty before it is needed.
	Receipts string `json:"receipts,omitempty"`
}

type spoolKeyJSON struct {
	Public []byte `json:"public"`
	// Private is a text of Dir.keepSecret; empty for one that is with the coordinator.
	Private string    `json:"private,omitempty"`
	Made    time.Time `json:"made"`
}

// SpoolKeys reads all, newest first: that is the one for new items. There are none before the first AddSpoolKey.
func (d *Dir) SpoolKeys() ([]SpoolKey, error) {
	j, err := d.readSpoolKeys()
	if err != nil {
		return nil, err
	}
	keys := make([]SpoolKey, 0, len(j.Keys))
	for _, x := range j.Keys {
		k := SpoolKey{Store: CoordinatorStore, Made: x.Made}
		if k.Public, err = seal.ParsePublicKey(x.Public); err != nil {
			return nil, d.spoolKeysDamaged()
		}
		if x.Private != "" {
			k.Store = storeOf(x.Private)
			secret, err := d.recallSecret(x.Private)
			if err != nil {
				return nil, fmt.Errorf("the queue's key in %s: %w", d.Path(spoolKeyFile), err)
			}
			if k.Private, err = seal.ParsePrivateKey(secret); err != nil || k.Private.Public().ID() != k.Public.ID() {
				return nil, d.spoolKeysDamaged()
			}
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// AddSpoolKey stores a key pair as the newest, in the key store of this directory. It is synced when AddSpoolKey returns.
func (d *Dir) AddSpoolKey(k seal.PrivateKey) error {
	secret, err := k.RevealBytes()
	if err != nil {
		return err
	}
	text, err := d.keepSecret(secret)
	if err != nil {
		return err
	}
	return d.addSpoolKey(spoolKeyJSON{Public: k.Public().Bytes(), Private: text, Made: time.Now().UTC()})
}

// AddHeldSpoolKey stores the public half of a key pair as the newest, whose private half the coordinator has.
func (d *Dir) AddHeldSpoolKey(k seal.PublicKey) error {
	return d.addSpoolKey(spoolKeyJSON{Public: k.Bytes(), Made: time.Now().UTC()})
}

func (d *Dir) addSpoolKey(k spoolKeyJSON) error {
	d.keys.Lock()
	defer d.keys.Unlock()
	j, err := d.readSpoolKeys()
	if err != nil {
		return err
	}
	j.Keys = append([]spoolKeyJSON{k}, j.Keys...)
	return d.writeSpoolKeys(j)
}

// KeepSpoolKeys forgets all keys but the newest and those named. It returns how many that were.
func (d *Dir) KeepSpoolKeys(needed []seal.KeyID) (int, error) {
	d.keys.Lock()
	defer d.keys.Unlock()
	j, err := d.readSpoolKeys()
	if err != nil || len(j.Keys) < 2 {
		return 0, err
	}
	before := len(j.Keys)
	j.Keys = append(j.Keys[:1], slices.DeleteFunc(j.Keys[1:], func(k spoolKeyJSON) bool {
		public, err := seal.ParsePublicKey(k.Public)
		return err == nil && !slices.Contains(needed, public.ID())
	})...)
	if len(j.Keys) == before {
		return 0, nil
	}
	return before - len(j.Keys), d.writeSpoolKeys(j)
}

// ReceiptsKey returns the key of the journal of receipts, and makes it the first time.
func (d *Dir) ReceiptsKey() ([]byte, error) {
	d.keys.Lock()
	defer d.keys.Unlock()
	j, err := d.readSpoolKeys()
	if err != nil {
		return nil, err
	}
	if j.Receipts != "" {
		key, err := d.recallSecret(j.Receipts)
		if err != nil {
			return nil, fmt.Errorf("the key of the receipts: %w", err)
		}
		return key, nil
	}
	key := make([]byte, receiptsKeySize)
	rand.Read(key) // never fails: crypto/rand
	if j.Receipts, err = d.keepSecret(key); err != nil {
		return nil, err
	}
	return key, d.writeSpoolKeys(j)
}

func (d *Dir) readSpoolKeys() (spoolKeysJSON, error) {
	b, err := os.ReadFile(d.Path(spoolKeyFile))
	if errors.Is(err, fs.ErrNotExist) {
		return spoolKeysJSON{}, nil
	}
	if err != nil {
		return spoolKeysJSON{}, fmt.Errorf("read the queue's keys: %w", err)
	}
	var j spoolKeysJSON
	if json.Unmarshal(b, &j) != nil { // whose error must not quote a file that holds a key
		return spoolKeysJSON{}, d.spoolKeysDamaged()
	}
	if j.Format > spoolKeyFormat {
		return spoolKeysJSON{}, fmt.Errorf("the queue's keys have format %d and this build knows up to %d: update the software", j.Format, spoolKeyFormat)
	}
	return j, nil
}

func (d *Dir) spoolKeysDamaged() error {
	return fmt.Errorf("the queue's keys in %s are damaged: restore the file from the backup, or the queue cannot be read", d.Path(spoolKeyFile))
}

func (d *Dir) writeSpoolKeys(j spoolKeysJSON) error {
	j.Format = spoolKeyFormat
	return d.writeJSON(spoolKeyFile, j)
}

// resealSpoolKeys moves them to the current key store.
func (d *Dir) resealSpoolKeys() error {
	j, err := d.readSpoolKeys()
	if err != nil || len(j.Keys) == 0 && j.Receipts == "" {
		return err
	}
	if j.Receipts != "" {
		secret, err := d.recallSecret(j.Receipts)
		if err != nil {
			return fmt.Errorf("the key of the receipts: %w", err)
		}
		if j.Receipts, err = d.keepSecret(secret); err != nil {
			return err
		}
	}
	for i, k := range j.Keys {
		if k.Private == "" {
			continue
		}
		secret, err := d.recallSecret(k.Private)
		if err != nil {
			return fmt.Errorf("the queue's key: %w", err)
		}
		if j.Keys[i].Private, err = d.keepSecret(secret); err != nil {
			return err
		}
	}
	return d.writeSpoolKeys(j)
}
