package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain makes this test binary the towpath command for the scripts.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"towpath": func() { os.Exit(run(os.Args)) }})
}

// TestScripts runs testdata/script: what a person types and what must be seen.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "freeports": freePorts, "eventually": eventually, "clockfloor": clockFloor, "talk": talk,
		},
	})
}

// exits runs a program that must end with an exit code: exits 2 towpath site add. What it prints can be matched as usual.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM [ARGS...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		got = e.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("%s ended with exit code %d, want %d", strings.Join(args[1:], " "), got, want)
	}
}

// freePorts puts a free port into each variable named: freeports HTTP HUB. Names in lower case are UDP ports.
func freePorts(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("usage: freeports VARIABLE...")
	}
	var last uint16
	for _, name := range args {
		network := "tcp"
		if strings.ToLower(name) == name {
			network = "udp"
		}
		port, err := freePort(network, last)
		ts.Check(err)
		last = port
		ts.Setenv(name, strconv.Itoa(int(port)))
	}
}

// eventually runs a program until it succeeds, for half a minute.
func eventually(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: eventually PROGRAM [ARGS...]")
	}
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := ts.Exec(args[0], args[1:]...)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s still fails: %v", strings.Join(args, " "), err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// clockFloor makes a box believe that it has lived an hour into the future, as one does whose clock went back.
func clockFloor(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: clockfloor STATE")
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0])+"/time-floor", []byte(time.Now().Add(time.Hour).UTC().Format(time.RFC3339)), 0o600))
}

// talk sends bytes to a TCP address, written as in a Go string, and prints the answer in hexadecimal until the other end closes the
// connection or has been silent for a second.
func talk(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: talk ADDRESS BYTES")
	}
	send, err := strconv.Unquote(`"` + args[1] + `"`)
	ts.Check(err)
	c, err := net.DialTimeout("tcp", args[0], 5*time.Second)
	ts.Check(err)
	defer func() { _ = c.Close() }()
	_, err = c.Write([]byte(send))
	ts.Check(err)
	var got []byte
	buf := make([]byte, 4096)
	for {
		ts.Check(c.SetReadDeadline(time.Now().Add(time.Second)))
		n, err := c.Read(buf)
		got = append(got, buf[:n]...)
		if err != nil {
			break
		}
	}
	_, err = fmt.Fprintf(ts.Stdout(), "% x\n", got)
	ts.Check(err)
}
