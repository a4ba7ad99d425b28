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
}

// OptionsText is what the column holds.
func OptionsText(o Options) string {
	b, err := json.Marshal(o)
	if err != nil {
		panic("options of a service cannot be written: " + err.Error()) // strings and numbers always can
	}
	return string(b)
}

// Scan implements sql.Scanner.
func (o *Options) Scan(src any) error {
	var text []byte
	switch v := src.(type) {
	case string:
		text = []byte(v)
	case []byte:
		text = v
	default:
		return fmt.Errorf("the options of a service are %T", src)
	}
	*o = Options{}
	if err := json.Unmarshal(text, o); err != nil {
		return fmt.Errorf("read the options of a service: %w", err)
	}
	return nil
}
