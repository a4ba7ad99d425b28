package gatewaytest

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"
)

// utf16Bytes is a second, plainer encoder than the one under test.
func utf16Bytes(s string, order binary.AppendByteOrder) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = order.AppendUint16(b, u)
	}
	return b
}

func TestCanaryIsFoundInEveryEncoding(t *testing.T) {
	c := Canary{"name": "Kanarienvogelä7", "uid": "2.25.123456789"}
	for _, text := range []string{"Kanarienvogelä7", "KANARIENVOGELÄ7", "kanarienvogelä7", "2.25.123456789"} {
		for encoding, b := range map[string][]byte{
			"plain": []byte(text), "UTF-16LE": utf16Bytes(text, binary.LittleEndian), "UTF-16BE": utf16Bytes(text, binary.BigEndian),
		} {
			for before := range 7 {
				body := append(bytes.Repeat([]byte("x"), before), b...)
				if len(c.Search(append(body, "|next"...))) == 0 {
					t.Errorf("%s in %s is not found", text, encoding)
				}
				for after := range 4 {
					coded := base64.StdEncoding.EncodeToString(append(bytes.Clone(body), bytes.Repeat([]byte("y"), after)...))
					if len(c.Search([]byte("OBX|1|ED|"+coded+"|"))) == 0 {
						t.Errorf("%s in base64 of %s is not found %d bytes in", text, encoding, before)
					}
				}
			}
		}
	}
	if hits := c.Search([]byte("PID|1||1||Kanarien^Vogel||2.25.12345678||" + strings.Repeat("harmless ", 1000))); len(hits) != 0 {
		t.Errorf("found what is not there: %v", hits)
	}
	if hits := c.Search([]byte("2.25.123456789 and 2.25.123456789")); len(hits) != 2 {
		t.Errorf("%d hits of 2: %v", len(hits), hits)
	}
}

func TestStudyHoldsItsCanary(t *testing.T) {
	p := NewPatient()
	dir := t.TempDir()
	files, objects, err := p.WriteStudy(dir, 3, 16)
	if err != nil {
		t.Fatal(err)
	}
	digests := map[string]bool{}
	for i, f := range files {
		o, err := ReadObject(f)
		if err != nil {
			t.Fatal(err)
		}
		if o != objects[i] || o.SOPClassUID != ctImageStorage || !strings.HasPrefix(o.SOPInstanceUID, p.StudyUID) || len(o.SOPInstanceUID) > 64 {
			t.Errorf("object %+v, want %+v", o, objects[i])
		}
		digests[o.Digest] = true
		hits, err := p.Canary().SearchFile(f)
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]bool{}
		for _, h := range hits {
			found[h.What] = true
		}
		for what := range p.Canary() {
			if !found[what] {
				t.Errorf("%s is not in %s", what, filepath.Base(f))
			}
		}
	}
	if len(digests) != 3 {
		t.Error("slices are not distinct")
	}
}

func TestDigestIsOfTheDataSetAlone(t *testing.T) {
	p := NewPatient()
	dir := t.TempDir()
	files, objects, err := p.WriteStudy(dir, 1, 16)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	other := bytes.Replace(data, []byte("2.25.7460"), []byte("2.25.7461"), 1) // another implementation wrote the meta information
	if o, err := ParseObject(other); err != nil || o.Digest != objects[0].Digest {
		t.Errorf("meta information changes the digest: %v", err)
	}
	data[len(data)-1] ^= 1
	if o, err := ParseObject(data); err != nil || o.Digest == objects[0].Digest {
		t.Errorf("a changed pixel does not change the digest: %v", err)
	}
	for _, n := range []int{0, 100, 132, 140, 150} {
		if _, err := ParseObject(data[:n]); err == nil {
			t.Errorf("%d bytes are taken for an object", n)
		}
	}
}

// frames holds one packet of each kind, written down from the protocols' own documents.
func TestCaptureIsClassified(t *testing.T) {
	const eth4, eth6 = "ffffffffffff0200000000010800", "ffffffffffff02000000000186dd"
	overlay := func(frame string) string { return strings.Replace(frame, "c6120202", "0ac90031", 1) } // 10.201.0.49
	ip4 := func(protocol, payload string) string {
		return eth4 + "450000000000000040" + protocol + "0000" + "c6120102" + "c6120202" + payload
	}
	frames := []string{
		"ffffffffffff0200000000010806" + "0001", // ARP
		ip4("01", "0800000000000000"),           // ICMP echo
		overlay(ip4("01", "0800000000000000")),
		overlay(ip4("11", "ca6cca6c00000000"+"01000000"+"00000000")),
		overlay(ip4("06", "c3501f9000000000")),
		ip4("11", "ca6cca6c00000000"+"01000000"+"00000000"),                                                    // WireGuard initiation
		ip4("11", "ca6cca6c00000000"+"04000000"+"00000000"),                                                    // WireGuard data
		ip4("11", "ca6cca6c00000000"+"04000001"+"00000000"),                                                    // not quite
		ip4("11", "14e914e900000000"+"05000000"+"00000000"),                                                    // neither
		ip4("11", "ca6c14e700000000"+"0201"+strings.Repeat("00", 58)),                                          // PCP
		ip4("11", "ca6c14e700000000"+"0000"),                                                                   // NAT-PMP
		ip4("11", "ca6c14e700000000"+"0001"+strings.Repeat("00", 10)),                                          // NAT-PMP
		ip4("11", "ca6c14e700000000"+"0001"+strings.Repeat("00", 11)),                                          // neither
		ip4("11", "ca6c14e800000000"+"0000"),                                                                   // to another port
		ip4("06", "1f90c35000000000"),                                                                          // from port 8080
		ip4("06", "c3501f9000000000"),                                                                          // to port 8080
		ip4("06", "c3500068"+"00000000"),                                                                       // DICOM in the clear
		eth6 + "60000000" + "0000" + "3a" + "ff" + strings.Repeat("00", 32),                                    // ICMPv6
		eth6 + "60000000" + "0000" + "00" + "01" + strings.Repeat("00", 32) + "3a00" + strings.Repeat("00", 6), // listener report
		eth4 + "4500",                           // short
		"ffffffffffff02000000000188cc" + "0001", // LLDP
	}
	pcap := make([]byte, 24)
	binary.LittleEndian.PutUint32(pcap, 0xa1b2c3d4)
	binary.LittleEndian.PutUint32(pcap[20:], 1)
	for _, f := range frames {
		b, err := hex.DecodeString(f)
		if err != nil {
			t.Fatal(err)
		}
		pcap = append(pcap, make([]byte, 8)...)
		pcap = binary.LittleEndian.AppendUint32(pcap, uint32(len(b)))
		pcap = binary.LittleEndian.AppendUint32(pcap, uint32(len(b)))
		pcap = append(pcap, b...)
	}
	got, err := parseCapture(append(pcap, 1, 2, 3), 8080)
	if err != nil {
		t.Fatal(err)
	}
	if got.Packets != 21 || got.WireGuard != [5]int{0, 1, 0, 0, 1} || got.Tunnel() != 2 || got.HTTP != 2 || got.Neighbors != 4 || got.Mapping != 3 || got.OtherCount != 10 {
		t.Errorf("got %+v", got)
	}
	for _, bad := range [][]byte{nil, make([]byte, 24), pcap[:20]} {
		if _, err := parseCapture(bad, 8080); err == nil {
			t.Errorf("%d bytes are taken for a capture", len(bad))
		}
	}
}

func TestCompareCountsEachOnce(t *testing.T) {
	a, b, c := Object{SOPInstanceUID: "1", Digest: "a"}, Object{SOPInstanceUID: "1", Digest: "b"}, Object{SOPInstanceUID: "2", Digest: "a"}
	equal, missing, extra := Compare([]Object{a, a, b}, []Object{a, c, c})
	if equal != 1 || len(missing) != 2 || len(extra) != 1 {
		t.Errorf("equal %d, missing %v, extra %v", equal, missing, extra)
	}
	if equal, missing, extra = Compare([]Object{a, b, b}, []Object{b, a, b}); equal != 3 || missing != nil || extra != nil {
		t.Errorf("equal %d, missing %v, extra %v", equal, missing, extra)
	}
}
