package gateway

import (
	"context"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/towpath/towpath/gateway/health"
	"github.com/towpath/towpath/gateway/receipts"
	"github.com/towpath/towpath/gateway/state"
	"github.com/towpath/towpath/proxy/spool"
)

const codeReceipts = "receipts"

// openReceipts opens the journal of what was delivered.
func openReceipts(opt Options) (*receipts.Journal, error) {
	key, err := opt.Dir.ReceiptsKey()
	if err != nil {
		return nil, fmt.Errorf("start the journal of receipts: %w", err)
	}
	j, err := receipts.Open(opt.Dir.Path(state.ReceiptsDir), key, receipts.Options{Log: opt.Log})
	if err != nil {
		return nil, fmt.Errorf("start the journal of receipts: %w", err)
	}
	return j, nil
}

// keepReceipt notes a delivery. That it could not be noted holds nothing up.
func (g *Gateway) keepReceipt(it spool.Item, r spool.Receipt) {
	e := receipts.Entry{
		At: r.At, Taken: it.Created, Queue: it.Meta.Queue, Item: string(it.ID), Size: it.Size, SHA256: hex.EncodeToString(it.SHA256[:]),
		Code: r.Code, Peer: r.Peer, Signed: r.Signed,
	}
	if it.Locked {
		e.SHA256 = "" // not known without the key
	}
	if e.At.IsZero() {
		e.At = time.Now()
	}
	if err := g.receipts.Append(e); err != nil {
		g.opt.Log.Error("a receipt could not be kept", "item", it.ID, "error", err)
		g.health.Raise(codeReceipts, health.Warning, "what is delivered is not entered in the journal of receipts: "+err.Error(), time.Now())
	}
}

// Receipts implements localapi.Receipts.
func (g *Gateway) Receipts(ctx context.Context, fn func(receipts.Entry) error) (receipts.Summary, error) {
	return g.receipts.Walk(ctx, fn)
}
