package hl7

import (
	"strings"
	"testing"
)

func TestUrgent(t *testing.T) {
	const msh = "MSH|^~\\&|RIS|CLINIC|HIS|LAB|20261123||ORM^O01|1|P|2.5\r"
	obr := func(priority string) string { return "OBR|1" + strings.Repeat("|", 26) + priority }
	for name, c := range map[string]struct {
		msg  string
		want bool
	}{
		"no order":                   {msh + "PID|1||4711", false},
		"stat in ORC-7":              {msh + "PID|1\rORC|NW|1|||||^^^^^S", true},
		"asap in ORC-7":              {msh + "ORC|NW|1|||||1^once^^^^A", true},
		"routine in ORC-7":           {msh + "ORC|NW|1|||||^^^^^R", false},
		"S elsewhere in ORC":         {msh + "ORC|NW|S|A|||S^S^S^S^S^R^S", false},
		"one component less":         {msh + "ORC|NW|1|||||^^^^S", false},
		"stat in OBR-27":             {msh + obr("^^^^^S"), true},
		"S in OBR-26 and 28":         {msh + strings.TrimSuffix(obr(""), "|") + "^^^^^S||^^^^^S", false},
		"stat in TQ1-9":              {msh + "TQ1|1||||||||S^Stat^HL70485", true},
		"preop in TQ1-9":             {msh + "TQ1|1||||||||P", false},
		"second repetition":          {msh + "TQ1|1||||||||R~A", true},
		"second order":               {msh + "ORC|NW|1|||||^^^^^R\rORC|NW|2|||||^^^^^S", true},
		"lower case":                 {msh + "TQ1|1||||||||s", true},
		"line feeds":                 {strings.ReplaceAll(msh, "\r", "\n") + "PID|1\nTQ1|1||||||||S\n", true},
		"own delimiters":             {"MSH#*!\\%#RIS##HIS##20261123##ORM*O01#1#P#2.5\rORC#NW#1#####*****S", true},
		"usual ones in another's":    {"MSH#*!\\%#RIS##HIS##20261123##ORM*O01#1#P#2.5\rORC|NW|1|||||^^^^^S", false},
		"a name that begins so":      {msh + "ORCX|NW|1|||||^^^^^S\rZRC|1||||||^^^^^S", false},
		"behind too many segments":   {msh + strings.Repeat("NTE|1\r", maxUrgentSegments) + "TQ1|1||||||||S", false},
		"the last segment looked at": {msh + strings.Repeat("NTE|1\r", maxUrgentSegments-2) + "TQ1|1||||||||S", true},
		"behind too many bytes":      {msh + "OBX|1|ED|||" + strings.Repeat("x", maxUrgentBytes) + "\rTQ1|1||||||||S", false},
	} {
		h, err := ParseHeader([]byte(c.msg))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := urgent(h, []byte(c.msg)); got != c.want {
			t.Errorf("%s: urgent is %v", name, got)
		}
	}
}

func FuzzUrgent(f *testing.F) {
	f.Add([]byte("MSH|^~\\&|A|B|C|D|20261123||ORM^O01|1|P|2.5\rORC|NW|1|||||^^^^^S\rTQ1|1||||||||S"))
	f.Add([]byte("MSH#*"))
	f.Fuzz(func(t *testing.T, msg []byte) {
		h, err := ParseHeader(msg)
		if err != nil {
			return
		}
		got := urgent(h, msg)
		if got && !strings.ContainsAny(strings.ToUpper(string(msg)), "SA") {
			t.Error("urgent without a code")
		}
		if got && !urgent(h, append(append([]byte{}, msg...), "\rZZZ"...)) && len(msg) < maxUrgentBytes-4 {
			t.Error("another segment at the end makes it routine")
		}
	})
}
