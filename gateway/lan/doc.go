// Package lan is the box's proxy.Network towards the clinic: ordinary TCP on the local interfaces, tuned so that senders with Nagle's
// algorithm on do not wait for delayed acknowledgments (RFC 1122 §4.2.3.2, RFC 896), and barred from every overlay address.
//
// It never carries anything into the tunnel and knows no protocol.
//
// State: none.
package lan
