// Package proxytest lets protocol handlers be tested without sockets: a proxy.Network in memory whose connections have deadlines,
// half-close and a bounded buffer, and faults that cut, stall or slow a connection at a chosen byte.
//
// Everything blocks only on sync.Cond, channels and timers, so that it works inside a testing/synctest bubble with fake time. It is for
// tests and demonstrations only.
//
// State: a Network owns its listeners; a connection belongs to its two ends.
package proxytest
