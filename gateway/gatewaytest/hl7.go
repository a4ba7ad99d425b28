//go:build lab

package gatewaytest

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

// MLLP block characters (HL7 v2 transport specification, MLLP release 1).
const (
	startBlock = 0x0b
	endBlock   = 0x1c
)

// Mailbox is an HL7 application in a namespace that accepts every message and keeps it.
type Mailbox struct {
	mu       sync.Mutex
	messages [][]byte
}

// Mailbox starts an MLLP listener.
func (n Namespace) Mailbox(t testing.TB, address string) *Mailbox {
	t.Helper()
	m := &Mailbox{}
	l := n.Listen(t, address)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go m.serve(c)
		}
	}()
	return m
}

// Messages are those received so far.
func (m *Mailbox) Messages() [][]byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([][]byte(nil), m.messages...)
}

func (m *Mailbox) serve(c net.Conn) {
	defer c.Close()
	r := bufio.NewReader(c)
	for {
		if _, err := r.ReadBytes(startBlock); err != nil {
			return
		}
		body, err := r.ReadBytes(endBlock)
		if err != nil {
			return
		}
		if b, err := r.ReadByte(); err != nil || b != '\r' {
			return
		}
		body = body[:len(body)-1]
		m.mu.Lock()
		m.messages = append(m.messages, bytes.Clone(body))
		m.mu.Unlock()
		if _, err := io.WriteString(c, "\x0b"+acknowledge(body)+"\x1c\r"); err != nil {
			return
		}
	}
}

// acknowledge writes the general acknowledgment of a message (HL7 v2.5 §2.9.2).
func acknowledge(message []byte) string {
	header, _, _ := strings.Cut(string(message), "\r")
	f := strings.Split(header, "|")
	for len(f) < 12 {
		f = append(f, "")
	}
	return fmt.Sprintf("MSH|^~\\&|%s|%s|%s|%s|20261122101500||ACK|A%s|P|%s\rMSA|AA|%s\r", f[4], f[5], f[2], f[3], f[9], f[11], f[9])
}

// Order writes an order for the patient.
func (p Patient) Order(control, receiver string) []byte {
	return []byte(strings.Join([]string{
		`MSH|^~\&|KIS|CLINIC|` + receiver + `|CENTER|20261122101500||ORM^O01^ORM_O01|` + control + `|P|2.5|||||DEU|UNICODE UTF-8`,
		"PID|1||" + p.ID + "||" + p.Family + "^" + p.Given + "||19700101|O",
		"ORC|NW|" + p.Accession,
		"OBR|1|" + p.Accession + "||CT^Schädel|||20261122101500",
		"",
	}, "\r"))
}

// Result writes the finding of the patient's study.
func (p Patient) Result(control, receiver string) []byte {
	return []byte(strings.Join([]string{
		`MSH|^~\&|RIS|CENTER|` + receiver + `|CLINIC|20261122111500||ORU^R01^ORU_R01|` + control + `|P|2.5|||||DEU|UNICODE UTF-8`,
		"PID|1||" + p.ID + "||" + p.Family + "^" + p.Given + "||19700101|O",
		"OBR|1|" + p.Accession + "||CT^Schädel|||20261122101500",
		"OBX|1|TX|59776-5^Befund||Kein Nachweis einer Blutung. Studie " + p.StudyUID + "||||||F",
		"",
	}, "\r"))
}
