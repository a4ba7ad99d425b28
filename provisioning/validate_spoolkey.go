package provisioning

import (
	"strings"

	"github.com/towpath/towpath/provisioning/wire"
)

// CheckSpoolKey refuses a place for the key of queues that there is not. The error is an *Error with code Invalid.
func CheckSpoolKey(k wire.SpoolKey) error {
	if k == "" {
		return nil
	}
	return checkChoice("place for the key of the queues", k, wire.SpoolKeyFile, wire.SpoolKeyTPM, wire.SpoolKeyCoordinator)
}

// CheckHeldSpoolKey checks what a Node wants kept. The error is an *Error with code Invalid and does not quote the key.
func CheckHeldSpoolKey(k wire.HeldSpoolKey) error {
	if k.ID == "" || len(k.ID) > wire.MaxSpoolKeyID || strings.Trim(k.ID, "0123456789abcdef") != "" || len(k.Private) != wire.SpoolKeySize {
		return Errorf(Invalid, "this is no key of a queue").WithHint("update the box")
	}
	return nil
}
