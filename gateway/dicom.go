package gateway

import (
	"fmt"
	"time"

	"github.com/towpath/towpath/gateway/health"
	"github.com/towpath/towpath/gateway/reconcile"
)

const (
	codeDICOM      = "dicom-conflict/"
	codeCommitment = "commitment/"
)

// commitmentSlow is how long a request for storage commitment may wait before that is worth a word.
const commitmentSlow = 10 * time.Minute

// conflictShown is how long a Condition reminds of objects that share a UID.
const conflictShown = 24 * time.Hour

// observeDICOM tells of objects that came with the UID of another and other bytes.
func (g *Gateway) observeDICOM(now time.Time) {
	var codes []string
	for _, c := range g.runner.DICOM() {
		if text := conflictText(c, now); text != "" {
			codes = append(codes, codeDICOM+c.Queue)
			g.health.Raise(codeDICOM+c.Queue, health.Warning, text, now)
		}
	}
	g.health.Keep(codeDICOM, codes)
	codes = nil
	for _, c := range g.runner.Commitments() {
		if text := commitmentText(c, now); text != "" {
			codes = append(codes, codeCommitment+c.Queue)
			g.health.Raise(codeCommitment+c.Queue, health.Warning, text, now)
		}
	}
	g.health.Keep(codeCommitment, codes)
}

// conflictText is empty where there is nothing to tell of.
func conflictText(c reconcile.DICOMCounts, now time.Time) string {
	if c.Conflicts == 0 || now.Sub(c.LastConflict) > conflictShown {
		return ""
	}
	return fmt.Sprintf("%d objects of queue %s came with the UID of another and other bytes, the last at %s: all were delivered, "+
		"and the archive decides which it shows. Look for a device that gives a UID twice, or an edited study",
		c.Conflicts, c.Queue, c.LastConflict.UTC().Format(time.RFC3339))
}

// commitmentText is empty where all is well: that objects wait for the line is told of the queue itself.
func commitmentText(c reconcile.CommitmentCounts, now time.Time) string {
	if c.Problem == "" || now.Sub(c.Oldest) < commitmentSlow {
		return ""
	}
	return fmt.Sprintf("%d requests for storage commitment in queue %s wait for the archive and %d outcomes for their devices, the oldest since %s: %s",
		c.Waiting, c.Queue, c.Untold, c.Oldest.UTC().Format(time.RFC3339), c.Problem)
}
