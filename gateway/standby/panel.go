package standby

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// panel compares what the gateways of a center say. One is healthy if it reaches all that any other reaches now: what none reaches is down
// itself, and a move would not help it.
type panel struct {
	services []string
	seen     map[string][]string // what each reached at its last answer
}

var errNothing = errors.New("it reaches none of the services, and no other gateway does")

// maxNamed bounds how many Services an error names.
const maxNamed = 4

// judge takes the end of a probe.
func (p panel) judge(r result, now time.Time) Look {
	l := Look{Gateway: r.gateway, At: now, Err: r.err}
	if r.err != nil {
		p.seen[r.gateway] = nil
		return l
	}
	up := slices.DeleteFunc(slices.Clone(r.up), func(s string) bool { return !slices.Contains(p.services, s) })
	p.seen[r.gateway] = up
	switch missing := p.missing(r.gateway); {
	case len(missing) > 0:
		l.Err = fmt.Errorf("it does not reach %s, and another gateway does", strings.Join(missing, ", "))
	case len(up) == 0 && len(p.services) > 0:
		l.Verdict, l.Err = Unsure, errNothing
	default:
		l.Verdict = Healthy
	}
	return l
}

// missing names Services that another gateway reaches and this one does not.
func (p panel) missing(gateway string) []string {
	var out []string
	for _, s := range p.services {
		if slices.Contains(p.seen[gateway], s) {
			continue
		}
		for _, up := range p.seen { // one's own does not have it
			if slices.Contains(up, s) {
				out = append(out, s)
				break
			}
		}
	}
	if len(out) > maxNamed {
		out = append(out[:maxNamed], "…")
	}
	return out
}
