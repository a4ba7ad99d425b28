//go:build lab

package gatewaytest

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// noDelay keeps DCMTK from waiting 40 ms for each small message.
func noDelay() []string { return []string{"TCP_NODELAY=1"} }

// Echo sends a C-ECHO and returns what echoscu printed and its exit code.
func (n Namespace) Echo(t testing.TB, host string, port int, called string) (string, int) {
	t.Helper()
	return n.Run(t, 30*time.Second, noDelay(), "echoscu", "-v", "-to", "10", "-aet", "MODALITY", "-aec", called, host, strconv.Itoa(port))
}

// Store sends files with storescu: one association, stop at the first failure.
func (n Namespace) Store(t testing.TB, host string, port int, called string, files []string) (string, int) {
	t.Helper()
	args := []string{"storescu", "-v", "-R", "-to", "10", "-aet", "MODALITY", "-aec", called, host, strconv.Itoa(port)}
	return n.Run(t, 5*time.Minute, noDelay(), append(args, files...)...)
}

// Send sends files with dcmsend, whatever they are, going on after failures. Nothing is decompressed, so that what leaves is what the
// file holds.
func (n Namespace) Send(t testing.TB, host string, port int, called string, files []string) (string, int) {
	t.Helper()
	args := []string{"dcmsend", "-v", "-nh", "-dn", "-to", "10", "-aet", "MODALITY", "-aec", called, host, strconv.Itoa(port)}
	return n.Run(t, 10*time.Minute, noDelay(), append(args, files...)...)
}

// SendHL7 sends one message with a real MLLP client: python-hl7's mllp_send, or nc. It returns what the program printed, and the
// message as it really went out: mllp_send drops the last carriage return.
func (n Namespace) SendHL7(t testing.TB, program, host string, port int, message []byte) (printed string, sent []byte) {
	t.Helper()
	file := filepath.Join(n.dir, "message.mllp")
	framed := append(append([]byte{startBlock}, message...), endBlock, '\r')
	if err := os.WriteFile(file, framed, 0o644); err != nil {
		t.Fatal(err)
	}
	argv := []string{"mllp_send", "--port", strconv.Itoa(port), "--file", file, host}
	sent = bytes.TrimSuffix(message, []byte("\r"))
	if program == "nc" {
		sent = message
		argv = []string{"sh", "-c", "nc -w 5 -q 5 " + host + " " + strconv.Itoa(port) + " <" + file}
	}
	out, code := n.Run(t, time.Minute, nil, argv...)
	if code != 0 {
		t.Errorf("%s ended with %d: %s", program, code, out)
	}
	return strings.ReplaceAll(out, "\r", "\n"), sent
}
