package transfer

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// The versions of the protocol that this program speaks.
const (
	minVersion = 1
	maxVersion = 1
)

// kind is the first byte of a frame.
type kind byte

// S: the sending gateway says it, R: the receiving one.
const (
	kindHello   kind = 1  // S, first on each lane
	kindWelcome kind = 2  // R, the answer
	kindOffer   kind = 3  // S
	kindWant    kind = 4  // R: send from here
	kindRefuse  kind = 5  // R
	kindChunk   kind = 6  // S, on any lane
	kindAck     kind = 7  // R, on the lane of the chunks
	kindTaken   kind = 8  // R: receipt of an offered item
	kindFinal   kind = 9  // R: receipt of an item taken before
	kindSettled kind = 10 // S: that receipt is kept
	kindAsk     kind = 11 // S: do you have this?
	kindHeld    kind = 12 // R: yes, and it is not delivered yet
	kindUnknown kind = 13 // R: no
	kindPing    kind = 14 // S
	kindPong    kind = 15 // R
	kindAbandon kind = 16 // S: forget the offer
	// kindDecoding is R: how many picoseconds it takes to decode a byte. Only for senders that speak version 2 of the codec.
	kindDecoding kind = 17
)

const (
	helloMark = "TWPX"
	// frameHead is the length of a frame's kind and length.
	frameHead = 5
	// chunkHead is the length of a chunk's fields before its data.
	chunkHead = 8 + 8 + 4 + 4 + 4 + 1
	// maxChunk is the most data in a chunk, and maxBlock the most payload in a block, in bytes.
	maxChunk = 128 << 10
	maxBlock = 2 << 20
	// maxControl bounds every other frame. The longest is an Offer with all its attributes.
	maxControl = 64 << 10
)

// limit is the longest body of a frame.
func (k kind) limit() int {
	switch k {
	case kindChunk:
		return chunkHead + maxChunk
	case kindOffer:
		return maxControl
	case kindTaken, kindFinal:
		return 8 + 4 + maxReceipt
	case kindHello, kindWelcome, kindRefuse, kindSettled, kindAsk, kindHeld, kindUnknown:
		return 1 << 10
	case kindWant, kindAck, kindPing, kindPong, kindAbandon, kindDecoding:
		return 16
	}
	return -1
}

// message is what a frame says.
type message interface {
	kind() kind
	appendTo(b []byte) []byte
}

// hello opens a lane of a session.
type hello struct {
	min, max byte
	session  [16]byte
	lane     byte
	codec    byte // the highest version of the codec
	node     string
}

// welcome codes.
const (
	welcomeOK      = 0
	refusedVersion = 1
	refusedNode    = 2
	refusedLane    = 3
)

type welcome struct {
	code    byte
	version byte
	codec   byte   // the highest version of both
	items   uint32 // how many may be offered and not taken at a time
	node    string
	public  []byte
}

type offer struct {
	handle uint64
	item   Item // without Node
}

type want struct {
	handle uint64
	offset int64
}

// reason says why an item does not come.
type reason byte

const (
	reasonLater   reason = 1
	reasonFull    reason = 2
	reasonNever   reason = 3
	reasonDamaged reason = 4
)

type refuse struct {
	handle uint64
	reason reason
	text   string
}

// method says what the data of a chunk are.
type method byte

const (
	methodRaw   method = 0 // bytes of the payload
	methodCodec method = 1 // bytes of a block of proxy/codec
)

// chunk is a piece of a block.
type chunk struct {
	handle uint64
	offset int64  // of the block in the payload
	size   uint32 // of the block in the payload
	coded  uint32 // of the block as it is sent
	at     uint32 // of the data in the coded block
	method method
	data   []byte
}

type ack struct{ chunks uint64 }

// signed is a receipt: of the offer handle, or of an item taken before.
type signed struct {
	k       kind
	handle  uint64
	receipt []byte
}

// named is a word on an item.
type named struct {
	k      kind
	id     string
	digest [sha256.Size]byte
	final  Kind // of the receipt that is settled, else 0
}

// number is a word with a number: a ping's or pong's token, or a handle.
type number struct {
	k kind
	n uint64
}

func (hello) kind() kind    { return kindHello }
func (welcome) kind() kind  { return kindWelcome }
func (offer) kind() kind    { return kindOffer }
func (want) kind() kind     { return kindWant }
func (refuse) kind() kind   { return kindRefuse }
func (chunk) kind() kind    { return kindChunk }
func (ack) kind() kind      { return kindAck }
func (m signed) kind() kind { return m.k }
func (m named) kind() kind  { return m.k }
func (m number) kind() kind { return m.k }

func (m hello) appendTo(b []byte) []byte {
	b = append(append(b, helloMark...), m.min, m.max)
	b = append(append(b, m.session[:]...), m.lane, m.codec)
	return appendText(b, m.node)
}

func (m welcome) appendTo(b []byte) []byte {
	b = append(b, m.code, m.version, m.codec)
	return appendBytes(appendText(binary.BigEndian.AppendUint32(b, m.items), m.node), m.public)
}

func (m offer) appendTo(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, m.handle)
	b = append(appendText(b, m.item.ID), m.item.SHA256[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(m.item.Size))
	b = append(appendText(b, m.item.Service), byte(m.item.Priority))
	return appendAttributes(appendTime(b, m.item.Created), m.item.Attributes)
}

func (m want) appendTo(b []byte) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, m.handle), uint64(m.offset))
}

func (m refuse) appendTo(b []byte) []byte {
	return appendText(append(binary.BigEndian.AppendUint64(b, m.handle), byte(m.reason)), limitText(m.text))
}

func (m chunk) appendTo(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, m.handle)
	b = binary.BigEndian.AppendUint64(b, uint64(m.offset))
	b = binary.BigEndian.AppendUint32(b, m.size)
	b = binary.BigEndian.AppendUint32(b, m.coded)
	b = binary.BigEndian.AppendUint32(b, m.at)
	return append(append(b, byte(m.method)), m.data...)
}

func (m ack) appendTo(b []byte) []byte { return binary.BigEndian.AppendUint64(b, m.chunks) }

func (m signed) appendTo(b []byte) []byte {
	return appendBytes(binary.BigEndian.AppendUint64(b, m.handle), m.receipt)
}

func (m named) appendTo(b []byte) []byte {
	return append(append(appendText(b, m.id), m.digest[:]...), byte(m.final))
}

func (m number) appendTo(b []byte) []byte { return binary.BigEndian.AppendUint64(b, m.n) }

// parse reads the body of a frame. The data of a chunk are those of b.
func parse(k kind, b []byte) (message, error) {
	d := &decoder{b: b}
	var m message
	switch k {
	case kindHello:
		m = parseHello(d)
	case kindWelcome:
		w := welcome{code: d.u8(), version: d.u8(), codec: d.u8(), items: d.u32(), node: d.text(MaxName)}
		w.public = d.bytes(64)
		m = w
	case kindOffer:
		m = parseOffer(d)
	case kindWant:
		m = want{d.u64(), d.size()}
	case kindRefuse:
		m = refuse{d.u64(), reason(d.u8()), limitText(d.text(MaxText))}
	case kindChunk:
		m = parseChunk(d)
	case kindAck:
		m = ack{d.u64()}
	case kindTaken, kindFinal:
		m = signed{k, d.u64(), d.bytes(maxReceipt)}
	case kindSettled, kindAsk, kindHeld, kindUnknown:
		m = named{k, d.text(MaxName), d.digest(), Kind(d.u8())}
	case kindPing, kindPong, kindAbandon, kindDecoding:
		m = number{k, d.u64()}
	default:
		return nil, fmt.Errorf("%w: kind %d", errMalformed, k)
	}
	if err := d.end(); err != nil {
		return nil, fmt.Errorf("%w: kind %d", err, k)
	}
	return m, nil
}

func parseHello(d *decoder) hello {
	if string(d.take(len(helloMark))) != helloMark {
		d.bad = true
	}
	m := hello{min: d.u8(), max: d.u8()}
	copy(m.session[:], d.take(len(m.session)))
	m.lane, m.codec, m.node = d.u8(), d.u8(), d.text(MaxName)
	return m
}

func parseOffer(d *decoder) offer {
	m := offer{handle: d.u64()}
	m.item.ID, m.item.SHA256, m.item.Size = d.text(MaxName), d.digest(), d.size()
	m.item.Service, m.item.Priority = d.text(MaxName), int(d.u8())
	m.item.Created, m.item.Attributes = d.time(), d.attributes()
	return m
}

func parseChunk(d *decoder) chunk {
	m := chunk{handle: d.u64(), offset: d.size(), size: d.u32(), coded: d.u32(), at: d.u32(), method: method(d.u8())}
	m.data = d.take(len(d.b))
	if m.method > methodCodec || len(m.data) == 0 || len(m.data) > maxChunk || m.size == 0 || m.size > maxBlock ||
		m.coded > maxBlock+1024 || uint64(m.at)+uint64(len(m.data)) > uint64(m.coded) || (m.method == methodRaw && m.coded != m.size) {
		d.bad = true
	}
	return m
}
