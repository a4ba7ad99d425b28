package gateway

import (
	"fmt"
	"time"

	"github.com/towpath/towpath/gateway/health"
)

const codePoll = "poll/"

// pollLate is how long a poll may see nothing before it is a Condition: archives are restarted at night.
const pollLate = time.Hour

// observePolls tells of archives that do not answer and of studies that do not come.
func (g *Gateway) observePolls(now time.Time) {
	var codes []string
	for _, p := range g.runner.Polls() {
		var text string
		last := p.Until
		if last.Before(g.started) {
			last = g.started
		}
		switch {
		case p.LastError != "" && now.Sub(last) > pollLate:
			text = fmt.Sprintf("%s has not been asked for new studies for %s since %s: %s", p.Archive, p.Service, last.UTC().Format(time.RFC3339), p.LastError)
		case p.Failing > 0:
			text = fmt.Sprintf("%d studies of %s could not be fetched whole for %s; they are tried again. The last time: %s", p.Failing, p.Archive, p.Service, p.StudyError)
		default:
			continue
		}
		codes = append(codes, codePoll+p.Service)
		g.health.Raise(codePoll+p.Service, health.Warning, text, now)
	}
	g.health.Keep(codePoll, codes)
}
