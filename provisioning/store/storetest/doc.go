// Package storetest is the contract of store.Store as tests, which every engine runs against itself.
//
// It knows no engine: what only SQL can do (going around the program, tampering) is tested beside each engine.
//
// State: none.
package storetest
