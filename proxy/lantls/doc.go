// Package lantls protects the LAN side of the clinical proxies: it serves TLS before a proxy.Handler sees a connection (PS3.15 annex B,
// BCP 195), dials applications over TLS, and keeps the Book of who still speaks cleartext, until when that is taken, and what went wrong.
//
// It holds no keys and no policy of its own: certificates, trust and rules are handed to it, and may change at any time.
//
// State: a Book owns counts of devices by source address and calling name, bounded, without patient data. Its caller stores them.
package lantls
