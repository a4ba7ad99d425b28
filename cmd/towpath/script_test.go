package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain makes this test binary the towpath command for the scripts.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"towpath": func() { os.Exit(run(os.Args)) }})
}

// TestScripts runs testdata/script: what a person types and what must be seen.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script", Cmds: scriptCommands()})
}
