package hl7

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"github.com/towpath/towpath/proxy/hl7/mllp"
)

// Level says how much a Finding matters.
type Level string

// The levels.
const (
	// Wrong breaks the standard in a way that makes receivers refuse or misread the message.
	Wrong Level = "error"
	// Doubtful is taken by many and refused by some.
	Doubtful Level = "warning"
	// Remark is worth knowing.
	Remark Level = "note"
)

// Finding is one thing that Inspect has to say. It names places and never repeats what stands in a patient's fields.
type Finding struct {
	Level Level `json:"level"`
	// Code is a fixed word for programs.
	Code string `json:"code"`
	// Message and Segment count from 1; 0 means the file, or the message, as a whole.
	Message int `json:"message,omitempty"`
	Segment int `json:"segment,omitempty"`
	// Text says what is wrong, Hint what to do.
	Text string `json:"text"`
	Hint string `json:"hint,omitempty"`
}

// Inspected is what a message says of itself.
type Inspected struct {
	Type     string `json:"type,omitempty"`
	Version  string `json:"version,omitempty"`
	Charset  string `json:"charset,omitempty"`
	Mode     string `json:"acknowledgment"` // original or enhanced
	Bytes    int    `json:"bytes"`
	Segments int    `json:"segments"`
	Batch    bool   `json:"batch,omitempty"`
}

// Report is all that Inspect found.
type Report struct {
	Framed   bool        `json:"framed"`
	Messages []Inspected `json:"messages"`
	Findings []Finding   `json:"findings"`
}

// Worst returns the level of the worst Finding, or "" without any.
func (r Report) Worst() Level {
	worst := Level("")
	for _, f := range r.Findings {
		switch {
		case f.Level == Wrong:
			return Wrong
		case f.Level == Doubtful || worst == "":
			worst = f.Level
		}
	}
	return worst
}

// Limits of a Report, so that a hostile file costs little.
const (
	maxFindings  = 200
	maxInspected = 10_000
)

// Inspect says in plain words what is wrong with the messages in data: one as it stands in a file, or the bytes of a connection with MLLP
// frames. It is for a technician's eyes; no rule of it keeps the gateway from carrying a message.
func Inspect(data []byte) Report {
	r := &inspection{}
	r.Messages, r.Findings = []Inspected{}, []Finding{}
	switch trimmed := bytes.TrimLeft(data, "\r\n \t\x00"); {
	case len(trimmed) == 0:
		r.wrong("empty", "there is nothing in it", "")
	case bytes.IndexByte(data, mllp.StartBlock) >= 0 && !bytes.HasPrefix(trimmed, []byte("MSH")):
		r.frames(data)
	default:
		r.pieces(data)
		r.message(data)
	}
	return r.Report
}

// inspection is a Report in the making.
type inspection struct {
	Report
	at, segment int
}

func (r *inspection) say(l Level, code, text, hint string) {
	if len(r.Findings) < maxFindings {
		r.Findings = append(r.Findings, Finding{Level: l, Code: code, Message: r.at, Segment: r.segment, Text: text, Hint: hint})
	}
}

func (r *inspection) wrong(code, text, hint string)    { r.say(Wrong, code, text, hint) }
func (r *inspection) doubtful(code, text, hint string) { r.say(Doubtful, code, text, hint) }
func (r *inspection) remark(code, text, hint string)   { r.say(Remark, code, text, hint) }

// frames inspects the bytes of a connection.
func (r *inspection) frames(data []byte) {
	r.Framed = true
	before, _, _ := bytes.Cut(data, []byte{mllp.StartBlock})
	if junk := bytes.Trim(before, "\r\n \t\x00"); len(junk) > 0 {
		r.doubtful("junk-before-frame", fmt.Sprintf("%d bytes stand before the first start block (0x0B)", len(junk)), "set the sender to plain MLLP")
	}
	d := mllp.NewDecoder(max(len(data), 1))
	d.Feed(data)
	for len(r.Messages) < maxInspected {
		content, ok, err := d.Next()
		if err != nil || !ok {
			break
		}
		if _, confirms := mllp.IsCommit(content); confirms {
			r.remark("commit", "a commit acknowledgment of MLLP release 2 (0x06 or 0x15)", "give the service the option for it if the sender needs it")
			continue
		}
		r.message(content)
	}
	loose, ended := d.End()
	if ended {
		r.message(loose)
	}
	r.at, r.segment = 0, 0
	switch {
	case d.Inside():
		r.wrong("frame-open", "the last frame has no end block (0x1C 0x0D): the message is not whole", "look for a time-out or a cut connection at the sender")
	case ended, bytes.Contains(data, []byte{mllp.EndBlock, mllp.StartBlock}):
		r.doubtful("no-final-cr", "a frame ends with 0x1C alone; MLLP wants 0x1C 0x0D", "many receivers wait for the 0x0D until they time out")
	}
	if n := d.Fragments(); n > 0 {
		r.wrong("fragment", fmt.Sprintf("%d times a message was broken off and another one begun within its frame", n),
			"the sender's time-out is too short, or two programs share the connection")
	}
}

// pieces looks for what is left of frames in a file that is no frame.
func (r *inspection) pieces(data []byte) {
	switch {
	case bytes.IndexByte(data, mllp.StartBlock) >= 0:
		r.wrong("frame-piece", "there are start blocks (0x0B) behind the beginning, so a frame has lost its own start", "record the connection from its beginning")
	case bytes.HasSuffix(bytes.TrimRight(data, "\r\n"), []byte{mllp.EndBlock}):
		r.wrong("frame-piece", "there is an end block (0x1C) without a start block (0x0B): a piece of an MLLP frame", "remove it from the file, or record the frame from its beginning")
	}
}

// message inspects one message or batch.
func (r *inspection) message(msg []byte) {
	r.at, r.segment = len(r.Messages)+1, 0
	r.Messages = append(r.Messages, Inspected{Bytes: len(msg)})
	info := &r.Messages[r.at-1]
	if !r.encoding(msg) {
		return
	}
	segments := r.terminators(msg)
	info.Segments = len(segments)
	if len(segments) == 0 {
		r.wrong("empty", "the message is empty", "")
		return
	}
	h, err := ParseHeader(msg)
	if err != nil {
		r.segment = 1
		r.wrong("header", strings.TrimPrefix(err.Error(), ErrNotHL7.Error()+": "), "a message must begin with MSH and its delimiters, such as MSH|^~\\&|")
		return
	}
	info.Type, info.Version, info.Charset, info.Mode = h.Type(), showable(h.Component(12, 1)), showable(h.Field(18)), "original"
	if h.enhanced() {
		info.Mode = "enhanced"
	}
	info.Batch = bytes.HasPrefix(segments[0], []byte("FHS")) || bytes.HasPrefix(segments[0], []byte("BHS"))
	r.segments(segments, info.Batch)
	r.segment = 1 + headerIndex(segments)
	r.delimiters(h)
	r.header(h)
	r.charset(h, msg)
	r.segment = 0
	if h.isAck() {
		r.acknowledgment(msg)
	}
}

func headerIndex(segments [][]byte) int {
	for i, s := range segments {
		if bytes.HasPrefix(s, []byte("MSH")) {
			return i
		}
	}
	return 0
}

// terminators splits a message and says what is wrong with the ends of its segments.
func (r *inspection) terminators(msg []byte) [][]byte {
	crlf := bytes.Count(msg, []byte("\r\n"))
	cr, lf := bytes.Count(msg, []byte("\r"))-crlf, bytes.Count(msg, []byte("\n"))-crlf
	const hint = "HL7 wants a carriage return (0x0D) alone; set the sender so, since many receivers take nothing else"
	switch {
	case crlf > 0 && cr+lf > 0 || cr > 0 && lf > 0:
		r.wrong("terminators-mixed", fmt.Sprintf("segments end in different ways: %d with CR, %d with LF, %d with CR LF", cr, lf, crlf), hint)
	case lf > 0:
		r.wrong("terminators-lf", "segments end with a line feed (0x0A)", hint)
	case crlf > 0:
		r.doubtful("terminators-crlf", "segments end with CR LF (0x0D 0x0A)", hint)
	}
	if last := msg[len(msg)-1]; last != '\r' && last != '\n' {
		r.remark("no-last-terminator", "the last segment has no carriage return", "a few receivers then lose it")
	}
	var out [][]byte
	for s := range bytes.FieldsFuncSeq(msg, func(c rune) bool { return c == '\r' || c == '\n' }) {
		out = append(out, s)
	}
	return out
}

// segments looks at names, control characters, and batch headers and trailers.
func (r *inspection) segments(segments [][]byte, batch bool) {
	count := map[string]int{}
	defer func() { r.segment = 0 }()
	for i, s := range segments {
		r.segment = i + 1
		s = bytes.TrimPrefix(s, []byte("\xef\xbb\xbf"))
		name := string(s[:min(3, len(s))])
		if !segmentName(name) {
			r.wrong("segment-name", fmt.Sprintf("segment %d does not begin with a segment's name", i+1),
				"a line break within a text must be written as an escape (\\.br\\ or \\X0D\\)")
			continue
		}
		count[name]++
		if c := bytes.IndexFunc(s, func(c rune) bool { return c < ' ' && c != '\t' }); c >= 0 {
			r.wrong("control-character", fmt.Sprintf("segment %d (%s) holds the control character 0x%02X", i+1, name, s[c]), "write it as an escape, such as \\X0D\\")
		}
	}
	r.segment = 0
	if n := count["MSH"]; n > 1 && !batch {
		r.wrong("several-messages", fmt.Sprintf("%d messages stand in one without a batch header", n), "send each in a frame of its own, or all as a batch (BHS to BTS)")
	}
	for _, pair := range [][2]string{{"FHS", "FTS"}, {"BHS", "BTS"}} {
		if count[pair[0]] != count[pair[1]] {
			r.wrong("batch", fmt.Sprintf("there are %d %s and %d %s segments", count[pair[0]], pair[0], count[pair[1]], pair[1]), "each header needs its trailer")
		}
	}
	r.batchCount(segments, count["BTS"])
}

// batchCount compares the number in BTS-1 with the messages that are there, where that is clear.
func (r *inspection) batchCount(segments [][]byte, trailers int) {
	messages := 0
	for _, s := range segments {
		switch {
		case bytes.HasPrefix(s, []byte("MSH")):
			messages++
		case bytes.HasPrefix(s, []byte("BTS")) && trailers == 1 && len(s) > 4:
			number, _, _ := bytes.Cut(s[4:], s[3:4])
			if n, err := strconv.Atoi(string(number)); err == nil && n != messages {
				r.wrong("batch-count", fmt.Sprintf("BTS-1 says %d messages, there are %d", n, messages), "parts of the batch may be missing")
			}
		}
	}
}

func segmentName(s string) bool {
	return len(s) == 3 && s[0] >= 'A' && s[0] <= 'Z' && strings.Trim(s[1:], "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") == ""
}

// acknowledgment looks at what an ACK must have.
func (r *inspection) acknowledgment(msg []byte) {
	switch a, err := ParseAck(msg); {
	case err != nil:
		r.wrong("ack", "an acknowledgment without a valid MSA-1 (AA, AE, AR, CA, CE, CR)", "the sender of the message cannot tell whether it was taken")
	case a.ControlID == "":
		r.wrong("ack-id", "MSA-2 is empty: nobody knows which message is acknowledged", "put MSH-10 of the message there")
	}
}
