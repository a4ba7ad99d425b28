package gateway

import (
	"fmt"
	"strings"
	"time"

	"github.com/towpath/towpath/gateway/health"
	"github.com/towpath/towpath/provisioning/wire"
)

const codeArchive = "archive/"

const (
	// unknownAfter is how long an archive may be unknown before that is worth a word, staleAfter how old what is known may be.
	unknownAfter = 2 * time.Minute
	archiveStale = 72 * time.Hour
)

// observeTwins tells where devices may hear something else than the archive would say, and why they were turned away.
func (g *Gateway) observeTwins(m wire.NetMap, now time.Time) {
	var codes []string
	raise := func(code string, s health.Severity, format string, a ...any) {
		codes = append(codes, codeArchive+code)
		g.health.Raise(codeArchive+code, s, fmt.Sprintf(format, a...), now)
	}
	for _, a := range archives(m) {
		s := g.twins.all.Of(a.service).Status()
		switch {
		case s.Probed.IsZero() && now.Sub(g.started) > unknownAfter:
			why, severity := s.Failure.Reason, health.Info
			if why == "" {
				why = "it has not been asked yet"
			}
			if a.own {
				severity = health.Warning
			}
			raise(a.service, severity, "what the archive of %s accepts is not known, so that everything that can be stored is accepted for it: %s", a.service, why)
		case !s.Probed.IsZero() && now.Sub(s.Probed) > archiveStale:
			raise(a.service, health.Info, "what the archive of %s accepts was found out at %s: %s", a.service, s.Probed.UTC().Format(time.RFC3339), s.Failure.Reason)
		}
		if c := s.Change; !c.At.IsZero() && now.Sub(c.At) < conflictShown {
			severity := health.Info
			if c.Lost > 0 {
				severity = health.Warning
			}
			raise("changed/"+a.service, severity, "the archive of %s accepts something else since %s (software %s, before %s): %d pairs of SOP class and transfer syntax less, %d more",
				a.service, c.At.UTC().Format(time.RFC3339), c.To, c.From, c.Lost, c.Gained)
		}
		if w := s.TurnedAway; !w.At.IsZero() && now.Sub(w.At) < toldFor {
			raise("refused/"+a.service, health.Warning, "%s", w.Reason)
		}
		if len(s.Refused) > 0 {
			raise("status-0122/"+a.service, health.Warning,
				"the archive of %s accepts these SOP classes and then answers 0122 to their objects: %s. Have its administrator enable them, or disable them wholly",
				a.service, strings.Join(s.Refused, ", "))
		}
	}
	g.health.Keep(codeArchive, codes)
}
