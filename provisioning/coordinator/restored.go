package coordinator

import (
	"context"
	"fmt"
	"sync"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
)

// maxRise is how far "coordinator restored" raises the generation: more cannot be the work of people, but of a box that lies.
const maxRise = 1 << 40

// restored is the newest generation that a Node has a map of, where this database cannot know it.
type restored struct {
	mu   sync.Mutex
	told uint64
	by   provisioning.NodeID
}

// note takes what a Node says that has a map of a generation above the database's. What cannot be is forgotten.
func (r *restored) note(id provisioning.NodeID, told, have uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if told > r.told && told > have && told-have <= maxRise {
		r.told, r.by = told, id
	}
}

func (r *restored) highest() (uint64, provisioning.NodeID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.told, r.by
}

// Restored raises the generation above what boxes have, after the database was restored from a backup: they refuse what is older. It
// returns the generation.
func (c *Coordinator) Restored(ctx context.Context, actor string) (uint64, error) {
	told, by := c.restored.highest()
	var gen uint64
	err := c.change(ctx, actor, "network.restored", func(tx store.Tx) (string, string, error) {
		before, err := tx.Generation()
		if err != nil {
			return "", "", fmt.Errorf("read the generation: %w", err)
		}
		if told <= before {
			return "", "", provisioning.Errorf(provisioning.Conflict, "no box has told of a newer map than this database knows").
				WithHint("wait until the boxes have called, which takes a minute; \"towpath plan check\" shows it")
		}
		if told-before > maxRise {
			return "", "", provisioning.Errorf(provisioning.Conflict, "node %s tells of generation %d, which cannot be", by, told).
				WithHint("quarantine the node and look at its box")
		}
		if gen, err = tx.Rise(told); err != nil {
			return "", "", fmt.Errorf("raise the generation: %w", err)
		}
		return hubOwner, fmt.Sprintf("from generation %d to %d, node %s has a map of %d", before, gen, by, told), nil
	})
	return gen, err
}
