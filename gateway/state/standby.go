package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// standbyFile has the active gateways of centers that are not the preferred ones.
const standbyFile = "standby.json"

// maxStandby bounds it in bytes.
const maxStandby = 1 << 20

// Standby reads which gateway of which center was in use, by site; nothing if all were the preferred ones.
func (d *Dir) Standby() (map[string]string, error) {
	f, err := os.Open(d.Path(standbyFile))
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]string{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read which gateways were in use: %w", err)
	}
	defer func() { _ = f.Close() }()
	var active map[string]string
	if err := json.NewDecoder(io.LimitReader(f, maxStandby)).Decode(&active); err != nil {
		return nil, fmt.Errorf("which gateways were in use is damaged: %w", err)
	}
	return active, nil
}

// SaveStandby replaces it.
func (d *Dir) SaveStandby(active map[string]string) error { return d.writeJSON(standbyFile, active) }
