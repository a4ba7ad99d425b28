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

// Sent is what became of one file at the modality.
type Sent struct {
	File string
	// Status is the C-STORE status in dcmsend's words, such as "0x0000 (Success)" or "<not sent>".
	Status string
}

// Acknowledged reports whether the modality may forget the object.
func (s Sent) Acknowledged() bool { return strings.HasPrefix(s.Status, "0x0000 ") }

// Send sends files with dcmsend, whatever they are, going on after failures, and returns what it says of each. Nothing compressed is
// decompressed.
func (n Namespace) Send(t testing.TB, host string, port int, called string, files []string) (out string, code int, sent []Sent) {
	t.Helper()
	if len(files) == 0 {
		return "", 0, nil
	}
	report := filepath.Join(t.TempDir(), "report.txt")
	args := []string{
		"dcmsend", "-v", "-nh", "-dn", "+crf", report, "-to", "10", "-aet", "MODALITY", "-aec", called, host, strconv.Itoa(port),
	}
	out, code = n.Run(t, 10*time.Minute, noDelay(), append(args, files...)...)
	data, err := os.ReadFile(report)
	if err != nil && code == 0 {
		t.Fatalf("dcmsend wrote no report: %v\n%s", err, out)
	}
	for line := range strings.Lines(string(data)) {
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(key) {
		case "Filename":
			sent = append(sent, Sent{File: value})
		case "DIMSE Status":
			sent[len(sent)-1].Status = value
		}
	}
	return out, code, sent
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
		argv = []string{"sh", "-c", "nc -w 5 -q 1 " + host + " " + strconv.Itoa(port) + " <" + file}
	}
	out, code := n.Run(t, time.Minute, nil, argv...)
	if code != 0 {
		t.Errorf("%s ended with %d: %s", program, code, out)
	}
	return strings.ReplaceAll(out, "\r", "\n"), sent
}
