package engine

import (
	"encoding/json"
	"fmt"

	"github.com/towpath/towpath/provisioning/wire"
)

// Options is the column of what few services have: a JSON object, "{}" for none. A member that this build does not know is lost only when
// the service is written again, which nothing does.
type Options struct {
	HL7   wire.HL7Options   `json:"hl7,omitzero"`
	Queue wire.QueueOptions `json:"queue,omitzero"`
	DICOM wire.DICOMOptions `json:"dicom,omitzero"`
}

// GrantOptions is the same for grants.
type GrantOptions struct {
	Poll wire.PollOptions `json:"poll,omitzero"`
}

// OptionsText is what the column holds.
func OptionsText[O Options | GrantOptions](o O) string {
	b, err := json.Marshal(o)
	if err != nil {
		panic("options cannot be written: " + err.Error()) // strings and numbers always can
	}
	return string(b)
}

// Scan implements sql.Scanner.
func (o *Options) Scan(src any) error {
	*o = Options{}
	return scanOptions(src, o)
}

// Scan implements sql.Scanner.
func (o *GrantOptions) Scan(src any) error {
	*o = GrantOptions{}
	return scanOptions(src, o)
}

func scanOptions(src, to any) error {
	var text []byte
	switch v := src.(type) {
	case string:
		text = []byte(v)
	case []byte:
		text = v
	default:
		return fmt.Errorf("the options are %T", src)
	}
	if err := json.Unmarshal(text, to); err != nil {
		return fmt.Errorf("read options: %w", err)
	}
	return nil
}

// LANTLSText is what the column of a Site holds: a JSON object, or null.
func LANTLSText(t *wire.LANTLS) string {
	b, err := json.Marshal(t)
	if err != nil {
		panic("how a site's LAN is protected cannot be written: " + err.Error()) // strings, numbers, prefixes and sane times always can
	}
	return string(b)
}
