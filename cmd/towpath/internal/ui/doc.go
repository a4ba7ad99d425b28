// Package ui is how commands speak: tables and JSON on standard output, everything for a person on standard error, errors with a hint
// and an exit code.
//
// It never exits the process and never reads the environment by itself.
//
// State: none.
package ui
