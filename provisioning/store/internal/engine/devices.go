package engine

import (
	"encoding/json"
	"fmt"

	"github.com/towpath/towpath/provisioning/wire"
)

// Devices is the column of what operators have decided of a site's devices: a JSON list, "[]" for nothing.
type Devices []wire.Device

// DevicesText is what the column holds.
func DevicesText(d []wire.Device) string {
	if len(d) == 0 {
		return "[]"
	}
	b, err := json.Marshal(d)
	if err != nil {
		panic("devices of a site cannot be written: " + err.Error()) // strings and addresses always can
	}
	return string(b)
}

// Scan implements sql.Scanner.
func (d *Devices) Scan(src any) error {
	var text []byte
	switch v := src.(type) {
	case string:
		text = []byte(v)
	case []byte:
		text = v
	default:
		return fmt.Errorf("the devices of a site are %T", src)
	}
	var list []wire.Device
	if err := json.Unmarshal(text, &list); err != nil {
		return fmt.Errorf("read the devices of a site: %w", err)
	}
	if *d = list; len(list) == 0 {
		*d = nil
	}
	return nil
}
