package hl7

import (
	"strings"
	"time"
)

// Parties are sender and receiver of a sample message, MSH-3 to MSH-6. They must not hold delimiters.
type Parties struct {
	SendingApplication, SendingFacility, ReceivingApplication, ReceivingFacility string
}

// SampleOrder returns a synthetic ORM^O01 (a 12-lead ECG for a patient who does not exist) in UTF-8, with umlauts, declared in MSH-18.
func SampleOrder(now time.Time, controlID string, p Parties) []byte {
	at := now.Format("20060102150405")
	return []byte(join(
		msh(p, at, "ORM^O01^ORM_O01", controlID, "UNICODE UTF-8"),
		"PID|1||TEST-0001^^^TOWPATH^PI||Käßmöhler-Probe^Jürgen^^^^^L||19520731|M|||Rübenweg 1^^Überlingen^^88662^DE",
		"PV1|1|O|ECHO^^^PRAXIS||||0001^Prüfer^Änne",
		"ORC|NW|"+controlID+"^PRAXIS||||||"+at,
		"OBR|1|"+controlID+"^PRAXIS||93000^12-Kanal-EKG für Überwachung^L|||"+at,
	))
}

// SampleResult returns a synthetic ORU^R01, the evaluation of such an ECG, in ISO 8859-1, with umlauts, declared in MSH-18.
func SampleResult(now time.Time, controlID string, p Parties) []byte {
	at := now.Format("20060102150405")
	return latin1(join(
		msh(p, at, "ORU^R01^ORU_R01", controlID, "8859/1"),
		"PID|1||TEST-0001^^^TOWPATH^PI||Käßmöhler-Probe^Jürgen^^^^^L||19520731|M",
		"OBR|1|"+controlID+"^PRAXIS|"+controlID+"^CENTER|93000^12-Kanal-EKG^L|||"+at+"|||||||||||||||"+at+"||CAR|F",
		"OBX|1|NM|8867-4^Herzfrequenz^LN||72|/min|50-100|N|||F",
		"OBX|2|TX|8601-7^Befund^LN||Sinusrhythmus, unauffällige Rückbildung, keine Ischämiezeichen||||||F",
	))
}

func msh(p Parties, at, messageType, controlID, charset string) string {
	return strings.Join([]string{
		"MSH", `^~\&`, p.SendingApplication, p.SendingFacility, p.ReceivingApplication, p.ReceivingFacility, at, "", messageType, controlID,
		"T", "2.5.1", "", "", "", "", "", charset,
	}, "|")
}

func join(segments ...string) string { return strings.Join(segments, "\r") + "\r" }

// latin1 encodes text whose runes are all below 256.
func latin1(s string) []byte {
	b := make([]byte, 0, len(s))
	for _, r := range s {
		b = append(b, byte(r))
	}
	return b
}
