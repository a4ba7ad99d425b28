package gateway

import (
	"fmt"
	"time"

	"github.com/towpath/towpath/gateway/health"
	"github.com/towpath/towpath/provisioning/wire"
)

const day = 24 * time.Hour

// expiryWarnings say how a person hears of a plan that is not renewed, from the end backwards. Nothing ever stops because of it.
func expiryWarnings() []struct {
	before   time.Duration
	severity health.Severity
	text     string
} {
	return []struct {
		before   time.Duration
		severity health.Severity
		text     string
	}{
		{0, health.Error, "expired"},
		{day, health.Error, "expires within a day"},
		{7 * day, health.Warning, "expires within 7 days"},
		{14 * day, health.Warning, "expires within 14 days"},
		{30 * day, health.Info, "expires within 30 days"},
	}
}

func (g *Gateway) observeExpiry(m wire.NetMap, now time.Time) {
	for _, w := range expiryWarnings() {
		if !m.Expires.IsZero() && !now.Before(m.Expires.Add(-w.before)) {
			g.health.Raise(codeExpiry, w.severity, fmt.Sprintf("the plan of this box %s (%s): it goes on working with it, but it does not learn of changes; "+
				"the coordinator, which renews it every day, must be reached", w.text, m.Expires.UTC().Format(time.DateOnly)), now)
			return
		}
	}
	g.health.Clear(codeExpiry)
}
