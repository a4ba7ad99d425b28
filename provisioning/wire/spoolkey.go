package wire

import "log/slog"

// SpoolKey says where the private key of a Site's encrypted queues is kept.
type SpoolKey string

// The choices. The empty one leaves it to the box: where its other keys are.
const (
	// SpoolKeyFile is a file on the box, which only its owner may read.
	SpoolKeyFile SpoolKey = "file"
	// SpoolKeyTPM is the box's TPM.
	SpoolKeyTPM SpoolKey = "tpm"
	// SpoolKeyCoordinator is the coordinator: the box keeps the public half, and gets the private one after each start, into memory only.
	SpoolKeyCoordinator SpoolKey = "coordinator"
)

// PathSpoolKeys is where a Node leaves a key, by POST of a SpoolKeyDeposit, and gets what it left, by GET of SpoolKeys. It is part of the
// control API inside WireGuard.
const PathSpoolKeys = "/v1/spool-keys"

// Limits of the keys that a coordinator keeps for one Node.
const (
	MaxSpoolKeys     = 32
	MaxSpoolKeysBody = 16 << 10 // bytes
	SpoolKeySize     = 32       // bytes
	MaxSpoolKeyID    = 64
)

// HeldSpoolKey is the private key of a queue.
type HeldSpoolKey struct {
	// ID tells the Node's keys apart: 1 to MaxSpoolKeyID of 0 to 9 and a to f.
	ID string `json:"id"`
	// Private has SpoolKeySize bytes.
	Private []byte `json:"private"`
}

// SpoolKeyDeposit is what a Node leaves.
type SpoolKeyDeposit struct {
	Format int          `json:"format"`
	Key    HeldSpoolKey `json:"key"`
	// Needed are the IDs of earlier ones that are still needed. The others are forgotten.
	Needed []string `json:"needed,omitempty"`
}

// SpoolKeys are all that a Node has left.
type SpoolKeys struct {
	Keys []HeldSpoolKey `json:"keys"`
}

// String hides the secret.
func (k HeldSpoolKey) String() string { return "spool key " + k.ID }

// GoString hides the secret from %#v.
func (k HeldSpoolKey) GoString() string { return k.String() }

// LogValue hides the secret from slog.
func (k HeldSpoolKey) LogValue() slog.Value { return slog.StringValue(k.String()) }
