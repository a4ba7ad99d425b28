package coordinator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/wire"
)

// The keys of the network's settings in the store.
const (
	settingNetwork    = "network"
	settingConfig     = "config"
	settingQuarantine = "quarantine"
)

// settings are what Init decided. They are one JSON object, read at start.
type settings struct {
	HubAddress   netip.Addr `json:"hub_address"`
	HubEndpoints []string   `json:"hub_endpoints"`
	ControlPort  uint16     `json:"control_port"`
	URLs         []string   `json:"urls"`
	// PairKeys says whether boxes agree on preshared keys.
	PairKeys wire.PairKeys `json:"pair_keys,omitempty"`
}

var errNotInitialized = provisioning.Errorf(provisioning.NotFound, "this database holds no network yet").
	WithHint("initialize a network first")

func readSettings(tx store.Tx) (settings, error) {
	text, err := tx.Setting(settingConfig)
	if errors.Is(err, store.ErrNotFound) {
		return settings{}, errNotInitialized
	}
	if err != nil {
		return settings{}, fmt.Errorf("read the settings: %w", err)
	}
	var s settings
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return settings{}, fmt.Errorf("decode the settings: %w", err)
	}
	return s, nil
}

func writeSettings(tx store.Tx, s settings) error {
	b, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode the settings: %w", err)
	}
	if err := tx.SetSetting(settingConfig, string(b)); err != nil {
		return fmt.Errorf("write the settings: %w", err)
	}
	return nil
}

// bindSettings reads the settings and ties the database to its keys, the first time they meet.
func bindSettings(ctx context.Context, st store.Store, network string) (settings, error) {
	var s settings
	bound := ""
	err := st.View(ctx, func(tx store.Tx) error {
		var err error
		if s, err = readSettings(tx); err != nil {
			return err
		}
		bound, err = tx.Setting(settingNetwork)
		if errors.Is(err, store.ErrNotFound) {
			bound = ""
			return nil
		}
		return err
	})
	if err == nil && bound == "" {
		bound = network
		err = st.Update(ctx, func(tx store.Tx) error { return tx.SetSetting(settingNetwork, network) })
	}
	if err != nil {
		return settings{}, fmt.Errorf("open the network: %w", err)
	}
	if bound != network {
		return settings{}, provisioning.Errorf(provisioning.Conflict, "the database is of network %s and the keys are of network %s", bound, network).
			WithHint("name the key directory and the database that belong together")
	}
	return s, nil
}

const (
	// defaultQuarantine is how long addresses stay unused until no log, no archive and no colleague means their last owner by them.
	defaultQuarantine = 30 * 24 * time.Hour
	maxQuarantine     = 10 * 366 * 24 * time.Hour
)

func readQuarantine(tx store.Tx) (time.Duration, error) {
	text, err := tx.Setting(settingQuarantine)
	if errors.Is(err, store.ErrNotFound) {
		return defaultQuarantine, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the quarantine: %w", err)
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("decode the quarantine: %w", err)
	}
	return d, nil
}

// SetQuarantine says how long what is released from now on stays unused, 0 to 10 years. What is quarantined already stays so.
func (c *Coordinator) SetQuarantine(ctx context.Context, actor string, d time.Duration) error {
	if d < 0 || d > maxQuarantine {
		return provisioning.Errorf(provisioning.Invalid, "a quarantine of %v is none", d).WithHint("choose from 0 to 10 years, such as 30 days")
	}
	return c.change(ctx, actor, "plan.quarantine", func(tx store.Tx) (string, string, error) {
		before, err := readQuarantine(tx)
		if err != nil {
			return "", "", err
		}
		if err := tx.SetSetting(settingQuarantine, d.String()); err != nil {
			return "", "", fmt.Errorf("write the quarantine: %w", err)
		}
		return "quarantine", fmt.Sprintf("from %v to %v", before, d), nil
	})
}
