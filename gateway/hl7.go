package gateway

import (
	"fmt"
	"time"

	"github.com/towpath/towpath/gateway/health"
	"github.com/towpath/towpath/gateway/reconcile"
	"github.com/towpath/towpath/gateway/state"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/proxy/hl7"
	"github.com/towpath/towpath/proxy/spool"
)

const codeHL7 = "hl7/"

// maxBackoff is the longest pause of a sender's gateway between two attempts.
const maxBackoff = spool.DefaultBackoffMax

// toldFor is how long a Condition tells of what happened once.
const toldFor = time.Hour

// openHL7 reads what messages were taken lately and adds what waits in the queue.
func openHL7(opt Options) (reconcile.HL7, error) {
	l, err := hl7.OpenLedger(opt.Dir.Path(state.LedgerDir), hl7.LedgerOptions{Log: opt.Log})
	if err != nil {
		return reconcile.HL7{}, fmt.Errorf("start the HL7 part: %w", err)
	}
	if err := l.Adopt(opt.Spool); err != nil {
		_ = l.Close()
		return reconcile.HL7{}, fmt.Errorf("start the HL7 part: %w", err)
	}
	folders := opt.Folders
	if folders == "" {
		folders = opt.Dir.Path(state.FoldersDir)
	}
	return reconcile.HL7{Ledger: l, Counters: &hl7.Counters{}, Folders: folders}, nil
}

// returnQueues are those by which acknowledgments go back to the Site's own senders.
func returnQueues(m wire.NetMap, served map[string]bool) {
	for _, o := range m.Offers {
		if o.HL7.Acks {
			served[reconcile.ReturnQueueName(o.Service)] = true
		}
	}
}

// observeHL7 turns what was counted into Conditions.
func (g *Gateway) observeHL7(now time.Time) {
	var codes []string
	raise := func(code string, s health.Severity, format string, a ...any) {
		codes = append(codes, codeHL7+code)
		g.health.Raise(codeHL7+code, s, fmt.Sprintf(format, a...), now)
	}
	recent := func(at time.Time) bool { return !at.IsZero() && now.Sub(at) < toldFor }
	for _, c := range g.hl7.Counters.List() {
		if recent(c.LastDuplicate) {
			raise("duplicates/"+c.Service, health.Info,
				"%d messages for %s were sent again although they had been taken, and were not delivered again: the sender does not get its answers in time",
				c.Duplicates, c.Service)
		}
		if recent(c.LastReused) {
			raise("control-id/"+c.Service, health.Info,
				"%d messages for %s have the control ID (MSH-10) of another one: their sender starts counting again, or two senders have one name (MSH-3 and 4)",
				c.Reused, c.Service)
		}
		if recent(c.LastRefusedLate) {
			raise("refused-late/"+c.Service, health.Warning,
				"%d messages for %s were refused by the application after they had been accepted: its own log says why", c.RefusedLate, c.Service)
		}
		if !c.LastUnfiled.IsZero() && now.Sub(c.LastUnfiled) < 2*maxBackoff {
			raise("folder/"+c.Service, health.Error,
				"messages for %s cannot be written to its folder, and wait where they are: the software that reads it must collect its files, or the disk is full", c.Service)
		}
		if c.Fragments > 0 {
			raise("fragments/"+c.Service, health.Info,
				"%d messages at the port of %s were broken off and begun again by their sender: check its time-out", c.Fragments, c.Service)
		}
	}
	for _, q := range g.opt.Spool.Stats() {
		switch {
		case q.Halted:
			raise("halted/"+q.Queue, health.Error, "%d messages in queue %s wait behind one that was refused, because their order is to be kept: decide about that one",
				q.Queued, q.Queue)
		case q.Parked > 0 && q.Overtook > 0:
			raise("order/"+q.Queue, health.Info, "%d messages of queue %s were delivered before one that was refused and waits", q.Overtook, q.Queue)
		}
	}
	g.health.Keep(codeHL7, codes)
}
