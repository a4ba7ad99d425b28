package gateway

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
	"runtime"

	"github.com/towpath/towpath/gateway/reconcile"
	"github.com/towpath/towpath/gateway/state"
)

// Purposes of what is derived from the box's secret for receipts (HKDF, RFC 5869).
const (
	purposeSigner  = "towpath transfer receipts v1"
	purposePartial = "towpath transfer partial items v1"
)

// transferConfig makes the key by which this gateway signs for what others hand over to it. It is the same as long as the state directory lives.
func (g *Gateway) transferConfig() (reconcile.TransferConfig, error) {
	secret, err := g.opt.Dir.ReceiptsKey()
	if err != nil {
		return reconcile.TransferConfig{}, fmt.Errorf("start the transfer: %w", err)
	}
	seed, err := hkdf.Key(sha256.New, secret, nil, purposeSigner, ed25519.SeedSize)
	if err != nil {
		return reconcile.TransferConfig{}, fmt.Errorf("start the transfer: %w", err)
	}
	c := reconcile.TransferConfig{
		Spool: g.opt.Spool, Node: g.netMap.Self.Node, Signer: ed25519.NewKeyFromSeed(seed), Workers: runtime.GOMAXPROCS(0),
	}
	keys, err := g.opt.Dir.SpoolKeys()
	if err != nil {
		return reconcile.TransferConfig{}, fmt.Errorf("start the transfer: %w", err)
	}
	if len(keys) > 0 && keys[0].Store == state.CoordinatorStore {
		return c, nil // nothing readable may stay on the disk of such a box: items that are not whole are sent again after a restart
	}
	c.Secret, err = hkdf.Key(sha256.New, secret, nil, purposePartial, sha256.Size)
	if err != nil {
		return reconcile.TransferConfig{}, fmt.Errorf("start the transfer: %w", err)
	}
	return c, nil
}
