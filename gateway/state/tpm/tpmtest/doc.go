// Package tpmtest runs software TPMs (swtpm) for tests. A test that needs one where there is none is skipped, and says so.
//
// It never touches the machine's own TPM.
//
// State: a process and a temporary directory for each TPM, both gone when the test ends.
package tpmtest
