package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
)

const configFile = "config.json"

// coordinatorConfig is what "coordinator init" decided for "coordinator serve". Unknown fields are an error.
type coordinatorConfig struct {
	// Listen is the address of the enrolment port.
	Listen  string `json:"listen"`
	HubPort uint16 `json:"hub_port"`
	// ListenTLS is an address where the same is served in TLS; empty for none.
	ListenTLS string `json:"listen_tls,omitempty"`
	// Database is the URL of a PostgreSQL database, with its password if it has one; empty means the file in the same directory.
	Database string `json:"database,omitempty"`
	// NoRelay says that the hub carries nothing between nodes.
	NoRelay bool `json:"no_relay,omitempty"`
	// Center is set if the center's gateway runs in the same process.
	Center *centerConfig `json:"center,omitempty"`
}

type centerConfig struct {
	Site     string     `json:"site"`
	Endpoint string     `json:"endpoint"`
	Port     uint16     `json:"port"`
	LAN      netip.Addr `json:"lan,omitzero"`
	Backend  string     `json:"backend"`
	// LANNets are as --lan-net of a gateway, NoFirewall as --no-firewall.
	LANNets    []netip.Prefix `json:"lan_networks,omitempty"`
	NoFirewall bool           `json:"no_firewall,omitempty"`
	// NoTransfer is as --no-transfer of a gateway.
	NoTransfer bool `json:"no_transfer,omitempty"`
}

func (c coordinatorConfig) save(dir string) error {
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the configuration: %w", err)
	}
	if err := renameio.WriteFile(filepath.Join(dir, configFile), append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	return nil
}

func loadCoordinatorConfig(dir string) (coordinatorConfig, error) {
	var c coordinatorConfig
	path := filepath.Join(dir, configFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, ui.Hint(fmt.Errorf("there is no network in %s", dir), "make one with \"towpath coordinator init\", or name its directory with --dir")
	}
	if err != nil {
		return c, fmt.Errorf("read the configuration: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return c, fmt.Errorf("read %s: %w", path, err)
	}
	return c, nil
}
