package hl7

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// encoding says what hinders reading at all, and reports whether the rest can be read.
func (r *inspection) encoding(msg []byte) bool {
	if bytes.HasPrefix(msg, []byte("\xef\xbb\xbf")) {
		r.doubtful("bom", "the message begins with a byte order mark (EF BB BF)", "save without it: receivers look for MSH at the first byte")
	}
	if _, err := ParseHeader(msg); err != nil && strings.Contains(err.Error(), "UTF-16") {
		r.wrong("utf-16", "the message is in UTF-16", "set the sender to UTF-8 or ISO 8859-1; MLLP allows single-byte sets and UTF-8 only")
		return false
	}
	if bytes.IndexByte(msg, 0) >= 0 {
		r.wrong("nul", "the message holds NUL bytes", "binary data must be encoded as base64")
	}
	return len(msg) > 0
}

// delimiters looks at MSH-1 and MSH-2.
func (r *inspection) delimiters(h Header) {
	own := h.Field(1) + h.Field(2)
	switch {
	case len(own) < 5:
		r.doubtful("delimiters-missing", fmt.Sprintf("MSH-2 has %d encoding characters instead of 4", len(own)-1), "write MSH|^~\\&|")
	case len(own) > 6:
		r.wrong("delimiters-many", fmt.Sprintf("MSH-2 has %d encoding characters", len(own)-1), "write MSH|^~\\&|; a fifth one (#) exists from version 2.7 on")
	}
	for i := range own {
		if strings.IndexByte(own[:i], own[i]) >= 0 {
			r.wrong("delimiters-twice", "a delimiter has two meanings in MSH-1 and MSH-2", "write MSH|^~\\&|")
			return
		}
	}
	if own[0] != '|' || !strings.HasPrefix(`^~\&#`, h.Field(2)) {
		r.doubtful("delimiters-unusual", "the delimiters are not the usual |^~\\&", "they are allowed, but many receivers know only these")
	}
}

// versions of HL7 2 (table 0104).
const versions = " 2.0 2.1 2.2 2.3 2.3.1 2.4 2.5 2.5.1 2.6 2.7 2.7.1 2.8 2.8.1 2.8.2 2.9 "

// header looks at the fields of MSH.
func (r *inspection) header(h Header) {
	for _, f := range []struct {
		n    int
		name string
	}{{3, "sending application"}, {4, "sending facility"}, {5, "receiving application"}, {6, "receiving facility"}} {
		if strings.TrimSpace(h.Field(f.n)) == "" {
			r.remark("msh-empty", fmt.Sprintf("MSH-%d (%s) is empty", f.n, f.name), "gateways route and recognize repetitions by MSH-3 to MSH-6")
		}
	}
	r.date(h.Component(7, 1))
	r.messageType(h)
	r.controlID(h)
	switch p := h.Component(11, 1); {
	case p == "":
		r.wrong("msh-11", "MSH-11 (processing ID) is empty", "write P for production, T for training or D for debugging")
	case !strings.Contains(" P T D ", " "+p+" "):
		r.wrong("msh-11", "MSH-11 (processing ID) is none of P, T and D", "receivers refuse others with AR")
	}
	switch v := h.Component(12, 1); {
	case v == "":
		r.wrong("msh-12", "MSH-12 (version) is empty", "write the version of the interface's description, such as 2.5.1")
	case !strings.Contains(versions, " "+v+" "):
		r.wrong("msh-12", fmt.Sprintf("MSH-12 says version %s, which does not exist", showable(v)), "write one such as 2.3, 2.5 or 2.5.1")
	}
	for _, n := range []int{15, 16} {
		if c := strings.ToUpper(h.Component(n, 1)); c != "" && !strings.Contains(" AL NE ER SU ", " "+c+" ") {
			r.wrong("ack-condition", fmt.Sprintf("MSH-%d is none of AL, NE, ER and SU", n), "leave MSH-15 and MSH-16 empty for one answer from the application")
		}
	}
	if h.enhanced() && !wants(h.Field(15), true) && !wants(h.Field(16), true) && !h.isAck() {
		r.doubtful("no-answer", "by MSH-15 and MSH-16 the sender wants no answer when all is well, so it cannot know whether the message arrived", "set MSH-15 to AL")
	}
}

func (r *inspection) controlID(h Header) {
	id := h.ControlID()
	switch {
	case id == "":
		r.wrong("msh-10", "MSH-10 (message control ID) is empty: no answer can be matched", "number the messages, or use a UUID")
	case len(id) > 199:
		r.wrong("msh-10", "MSH-10 (message control ID) has more than 199 bytes", "shorten it")
	case len(id) > 20 && h.Component(12, 1) < "2.7":
		r.doubtful("msh-10", fmt.Sprintf("MSH-10 (message control ID) has %d bytes; up to version 2.6 it has at most 20", len(id)), "a receiver that cuts it answers for another message")
	}
	if strings.ContainsFunc(id, func(c rune) bool { return c > '~' || c < '!' }) {
		r.doubtful("msh-10", "MSH-10 (message control ID) holds spaces or characters that are not ASCII", "use letters and digits")
	}
}

// date checks a time stamp, YYYYMMDD[HHMM[SS[.SSSS]]][+/-ZZZZ] (HL7 2.5.1 §2.A.22).
func (r *inspection) date(s string) {
	const hint = "write it as YYYYMMDDHHMMSS+ZZZZ, such as 20261122101500+0100"
	if s == "" {
		r.doubtful("msh-7", "MSH-7 (date and time) is empty", hint)
		return
	}
	stamp, zone := s, ""
	if i := strings.IndexAny(s, "+-"); i >= 0 {
		stamp, zone = s[:i], s[i:]
	}
	stamp, fraction, fractional := strings.Cut(stamp, ".")
	layout := "20060102150405"
	digits := func(s string) bool { return strings.Trim(s, "0123456789") == "" }
	ok := slices.Contains([]int{4, 6, 8, 10, 12, 14}, len(stamp)) && digits(stamp) && (!fractional || len(stamp) == 14 && fraction != "" && len(fraction) <= 4 && digits(fraction))
	if ok {
		_, err := time.Parse(layout[:len(stamp)], stamp)
		ok = err == nil
	}
	if ok && zone != "" {
		_, err := time.Parse("-0700", zone)
		ok = err == nil
	}
	switch {
	case !ok:
		r.wrong("msh-7", "MSH-7 is not a date and time", hint)
	case len(stamp) < 12:
		r.doubtful("msh-7", "MSH-7 holds no time of day", hint)
	}
}

// structures are the abstract message structures of the common events (table 0354); other events of these types have others.
func structures() map[string]string {
	m := map[string]string{
		"ORM^O01": "ORM_O01", "ORU^R01": "ORU_R01", "ORU^R30": "ORU_R30", "OML^O21": "OML_O21", "OMG^O19": "OMG_O19", "OMI^O23": "OMI_O23",
		"ORL^O22": "ORL_O22", "ORR^O02": "ORR_O02", "MDM^T01": "MDM_T01", "MDM^T02": "MDM_T02", "MDM^T05": "MDM_T01", "MDM^T06": "MDM_T02",
		"QBP^Q11": "QBP_Q11", "QBP^Q21": "QBP_Q21", "QBP^Q22": "QBP_Q21", "QBP^Q23": "QBP_Q21", "RSP^K11": "RSP_K11", "RSP^K21": "RSP_K21",
		"RSP^K22": "RSP_K22", "QRY^A19": "QRY_A19", "DFT^P03": "DFT_P03", "BAR^P01": "BAR_P01", "MFN^M02": "MFN_M02", "OUL^R22": "OUL_R22",
		"RDE^O11": "RDE_O11", "RAS^O17": "RAS_O17", "VXU^V04": "VXU_V04",
	}
	for event, structure := range map[string]string{
		"A01": "A01", "A04": "A01", "A08": "A01", "A13": "A01", "A02": "A02", "A03": "A03", "A05": "A05", "A14": "A05", "A28": "A05", "A31": "A05",
		"A06": "A06", "A07": "A06", "A11": "A09", "A12": "A12", "A18": "A18", "A34": "A30", "A40": "A39", "A41": "A39", "A42": "A39",
	} {
		m["ADT^"+event] = "ADT_" + structure
	}
	for _, event := range []string{"S12", "S13", "S14", "S15", "S16", "S17", "S26"} {
		m["SIU^"+event] = "SIU_S12"
	}
	return m
}

// messageTypes are those of table 0076 that are met.
const messageTypes = " ACK ADR ADT BAR BPS BRP BRT CRM CSU DFT DOC DSR EAC EAN EAR EDR EQQ ERP ESR ESU INR INU LSR LSU MCF MDM MFD MFK MFN MFQ MFR " +
	"NMD NMQ NMR OMB OMD OMG OMI OML OMN OMP OMS OPL OPR OPU ORA ORB ORD ORF ORG ORI ORL ORM ORN ORP ORR ORS ORU OSQ OSR OUL PEX PGL PIN PMU " +
	"PPG PPP PPR PPT PPV PRR PTR QBP QCK QCN QRF QRY QSB QSX QVR RAR RAS RCI RCL RDE RDR RDS RDY REF RER RGR RGV ROR RPA RPI RPL RPR RQA RQC " +
	"RQI RQP RQQ RRA RRD RRE RRG RRI RSP RTB SCN SDN SDR SIU SLN SLR SMD SPQ SQM SQR SRM SRR SSR SSU STC STI SUR TBR TCR TCU UDM VQQ VXQ VXR " +
	"VXU VXX "

func (r *inspection) messageType(h Header) {
	code, trigger, structure := h.Component(9, 1), h.Component(9, 2), h.Component(9, 3)
	switch {
	case code == "":
		r.wrong("msh-9", "MSH-9 (message type) is empty", "write type, trigger event and structure, such as ORU^R01^ORU_R01")
		return
	case strings.ToUpper(code) != code:
		r.wrong("msh-9", "MSH-9 (message type) is not in upper case", "write it such as ORU^R01")
	case strings.HasPrefix(code, "Z"):
		r.remark("msh-9-own", "MSH-9 names a message type of the maker's own (Z)", "the receiver must have been made for it")
	case !strings.Contains(messageTypes, " "+code+" "):
		r.doubtful("msh-9", fmt.Sprintf("MSH-9 names the message type %s, which is not in HL7 table 0076", showable(code)), "check its spelling, and the component separator ^ behind it")
	}
	if trigger == "" && code != "ACK" && code != "MCF" {
		r.doubtful("msh-9", "MSH-9 names no trigger event", "write type and event, such as ORU^R01")
	}
	want := structures()[code+"^"+trigger]
	switch {
	case structure == "" || code == "ACK" && structure == "ACK":
	case len(structure) != 7 && len(structure) != 3:
		r.wrong("msh-9-structure", "the third component of MSH-9 is not a message structure", "write it such as ORU_R01, or leave it out")
	case want != "" && structure != want:
		r.doubtful("msh-9-structure", fmt.Sprintf("MSH-9 says %s^%s with the structure %s; the standard has %s", showable(code), showable(trigger), showable(structure), want),
			"receivers that go by the structure read it wrongly")
	}
}

// charsets of table 0211, as senders write them.
const charsets = "|ASCII|8859/1|8859/2|8859/3|8859/4|8859/5|8859/6|8859/7|8859/8|8859/9|8859/15|ISO IR6|ISO IR14|ISO IR87|ISO IR159|GB 18030-2000|KS X 1001|" +
	"CNS 11643-1992|BIG-5|UNICODE|UNICODE UTF-8|UNICODE UTF-16|UNICODE UTF-32|"

// charset compares MSH-18 with the bytes that are there.
func (r *inspection) charset(h Header, msg []byte) {
	declared := strings.ToUpper(strings.TrimSpace(strings.SplitN(h.Field(18), string(h.encoding(1)), 2)[0]))
	ascii := true
	for _, c := range msg {
		ascii = ascii && c < utf8.RuneSelf
	}
	looks := "ISO 8859-1 or another 8-bit set"
	if utf8.Valid(msg) {
		looks = "UTF-8"
	}
	switch {
	case declared != "" && !strings.Contains(charsets, "|"+declared+"|"):
		r.wrong("charset-unknown", fmt.Sprintf("MSH-18 names the character set %s, which HL7 table 0211 does not have", showable(h.Field(18))), "write 8859/1 or UNICODE UTF-8")
	case ascii:
	case declared == "":
		r.wrong("charset-undeclared", "there are characters that are not ASCII, and MSH-18 does not say in which set; the bytes look like "+looks,
			"set MSH-18 in the sender to 8859/1 or UNICODE UTF-8, whichever it uses")
	case declared == "ASCII" || declared == "ISO IR6":
		r.wrong("charset-wrong", "MSH-18 says ASCII, but there are other characters; the bytes look like "+looks, "declare the set that is used")
	case declared == "UNICODE UTF-8" && looks != "UTF-8":
		r.wrong("charset-wrong", "MSH-18 says UTF-8, but the bytes are not; they look like "+looks, "declare the set that is used")
	case strings.HasPrefix(declared, "8859/") && looks == "UTF-8":
		r.doubtful("charset-wrong", "MSH-18 says ISO 8859, but the bytes look like UTF-8: umlauts will come out as two characters", "declare UNICODE UTF-8, or convert")
	}
}
