package prove

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/towpath/towpath/provisioning/wire"
)

// Delta is what a Prover's Update takes.
type Delta struct{ Remove, Add Input }

// Between returns what makes b of a. Who knows what changed without comparing all says it directly.
func Between(a, b Input) Delta {
	var d Delta
	if b.Hub != nil && (a.Hub == nil || *a.Hub != *b.Hub) {
		d.Add.Hub = b.Hub
	}
	d.Remove.Plan.Entries, d.Add.Plan.Entries = differ(a.Plan.Entries, b.Plan.Entries, key)
	same := func(s Site) Site { return s }
	d.Remove.Sites, d.Add.Sites = differ(a.Sites, b.Sites, same)
	d.Remove.Nodes, d.Add.Nodes = differ(a.Nodes, b.Nodes, asText)
	d.Remove.Services, d.Add.Services = differ(a.Services, b.Services, func(v Service) Service { return v })
	d.Remove.Grants, d.Add.Grants = differ(a.Grants, b.Grants, func(g Grant) Grant { return g })
	d.Remove.HubPeers, d.Add.HubPeers = differ(a.HubPeers, b.HubPeers, asText)
	d.Remove.Maps, d.Add.Maps = differ(a.Maps, b.Maps, func(m wire.NetMap) string {
		m.Generation, m.Issued, m.Expires = 0, time.Time{}, time.Time{}
		return asText(m)
	})
	// All maps of a node are replaced at once, so those that stay are added again beside the ones that change.
	touched := map[string]bool{}
	for _, m := range slices.Concat(d.Remove.Maps, d.Add.Maps) {
		touched[m.Self.Node] = true
	}
	d.Add.Maps = nil
	for _, m := range b.Maps {
		if touched[m.Self.Node] {
			d.Add.Maps = append(d.Add.Maps, m)
		}
	}
	return d
}

// asText makes a key of what has slices.
func asText[T any](v T) string {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprintf("%+v", v)
	}
	return string(b)
}

// differ returns what only a and only b have, counting repetitions.
func differ[T any, K comparable](a, b []T, key func(T) K) (remove, add []T) {
	n := make(map[K]int, len(a))
	for _, v := range a {
		n[key(v)]++
	}
	for _, v := range b {
		k := key(v)
		if n[k] == 0 {
			add = append(add, v)
			continue
		}
		n[k]--
	}
	for _, v := range slices.Backward(a) {
		k := key(v)
		if n[k] > 0 {
			n[k]--
			remove = append(remove, v)
		}
	}
	return remove, add
}
