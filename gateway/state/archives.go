package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// maxArchives bounds archives.json in bytes.
const maxArchives = 32 << 20

// Archives reads what was saved of archives, by service; nothing if nothing was. Whoever knows what it says checks it.
func (d *Dir) Archives() (map[string]json.RawMessage, error) {
	info, err := os.Stat(d.Path(archivesFile))
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]json.RawMessage{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what archives accept: %w", err)
	}
	if info.Size() > maxArchives {
		return nil, fmt.Errorf("what archives accept is saved in %d bytes, more than %d", info.Size(), maxArchives)
	}
	b, err := os.ReadFile(d.Path(archivesFile))
	if err != nil {
		return nil, fmt.Errorf("read what archives accept: %w", err)
	}
	var saved map[string]json.RawMessage
	if err := json.Unmarshal(b, &saved); err != nil {
		return nil, fmt.Errorf("what archives accept is damaged: %w", err)
	}
	return saved, nil
}

// SaveArchives replaces it.
func (d *Dir) SaveArchives(m map[string]json.RawMessage) error { return d.writeJSON(archivesFile, m) }

// maxDevices bounds devices.json in bytes.
const maxDevices = 4 << 20

// Devices reads what was saved of devices that have called; nil if nothing was. Whoever knows what it says checks it.
func (d *Dir) Devices() ([]byte, error) {
	info, err := os.Stat(d.Path(devicesFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read who has called: %w", err)
	}
	if info.Size() > maxDevices {
		return nil, fmt.Errorf("who has called is saved in %d bytes, more than %d", info.Size(), maxDevices)
	}
	b, err := os.ReadFile(d.Path(devicesFile))
	if err != nil {
		return nil, fmt.Errorf("read who has called: %w", err)
	}
	return b, nil
}

// SaveDevices replaces it.
func (d *Dir) SaveDevices(b []byte) error { return d.write(devicesFile, b) }
