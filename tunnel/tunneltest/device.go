package tunneltest

import "testing"

// Device runs the contract that every backend keeps.
func Device(t *testing.T, f Factory) {
	for _, c := range []struct {
		name string
		run  func(*testing.T, Factory)
	}{
		{"talks", testTalks},
		{"is idempotent", testIdempotent},
		{"keeps sessions", testKeepsSessions},
		{"forgets a removed peer at once", testRemoved},
		{"moves allowed IPs", testMoves},
		{"ignores a wrong key", testWrongKey},
		{"keeps a roamed endpoint", testRoaming},
		{"takes a new private key", testNewKey},
		{"uses a preshared key", testPresharedKey},
		{"keeps a session whose preshared key changes", testPresharedKeyOfARunningSession},
		{"refuses what leads nowhere", testNowhere},
		{"changes addresses and MTU", testAddresses},
		{"dials from its first address", testSource},
		{"heeds deadlines", testDeadlines},
		{"refuses an invalid configuration", testInvalid},
		{"closes", testCloses},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, f) })
	}
}
