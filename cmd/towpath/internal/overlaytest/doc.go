// Package overlaytest tries what the coordinator compiles on what boxes run: whole sites in one process, each with a tunnel, a queue and a LAN
// of its own, on maps made by provisioning/netmap and changed from one generation to the next. It needs no privileges and opens no sockets.
//
// There is nothing here but tests. They live under cmd because only here may both sides of the house meet.
//
// State: that of the test.
package overlaytest
