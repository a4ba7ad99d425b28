package pdu

// Limits bound what a peer can make us read or keep. A zero field means its default.
type Limits struct {
	// MaxAssociate is the largest A-ASSOCIATE-RQ or -AC body in bytes. Default 256 KiB: 128 contexts with 60 transfer syntaxes
	// each, which is more than any product seen offers, still fit.
	MaxAssociate uint32
	// MaxContexts is the number of presentation contexts. Default 128, which is also all that the odd IDs 1 to 255 allow.
	MaxContexts int
	// MaxTransferSyntaxes is the number per presentation context. Default 64; the standard registers about 60.
	MaxTransferSyntaxes int
	// MaxUserItems is the number of user information sub-items. Default 512: one role and one extended negotiation for each of 128
	// contexts, and as much again.
	MaxUserItems int
	// MaxData is the largest P-DATA-TF body in bytes that we announce and accept. Default 128 KiB, the most that DCMTK can send.
	// It costs no memory, since P-DATA is streamed.
	MaxData uint32
}

// The defaults of Limits.
const (
	DefaultMaxAssociate        = 256 << 10
	DefaultMaxContexts         = 128
	DefaultMaxTransferSyntaxes = 64
	DefaultMaxUserItems        = 512
	DefaultMaxData             = 128 << 10
)

// headerSlack is how far a P-DATA-TF body may exceed MaxData. Some old toolkits take the maximum length (PS3.8 §D.1) to be about
// the payload of a PDV and forget its six bytes of header; streaming them costs nothing.
const headerSlack = PDVHeaderSize

// WithDefaults returns l with zero fields replaced by their defaults.
func (l Limits) WithDefaults() Limits {
	if l.MaxAssociate == 0 {
		l.MaxAssociate = DefaultMaxAssociate
	}
	if l.MaxContexts == 0 {
		l.MaxContexts = DefaultMaxContexts
	}
	if l.MaxTransferSyntaxes == 0 {
		l.MaxTransferSyntaxes = DefaultMaxTransferSyntaxes
	}
	if l.MaxUserItems == 0 {
		l.MaxUserItems = DefaultMaxUserItems
	}
	if l.MaxData == 0 {
		l.MaxData = DefaultMaxData
	}
	return l
}
