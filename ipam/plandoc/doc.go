// Package plandoc is the address plan as a document: it reads the spreadsheet that people have and our own CSV and JSON, writes both
// without loss, finds every conflict with its line number, and says how two documents differ.
//
// It never decides what becomes of a document, knows no database and no network, reads no clock and logs nothing. Owners are names to
// it, whatever they name.
//
// State: none. A Document belongs to its caller; nothing here changes one it was given.
package plandoc
