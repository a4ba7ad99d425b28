package provisioning

import "github.com/towpath/towpath/provisioning/wire"

// CheckPairKeys refuses a policy for preshared keys that there is not. The error is an *Error with code Invalid.
func CheckPairKeys(p wire.PairKeys) error {
	if p == wire.PairKeysPreferred {
		return nil
	}
	return checkChoice("policy for preshared keys", p, wire.PairKeysRequired, wire.PairKeysOff)
}
