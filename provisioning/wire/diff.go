package wire

import (
	"bytes"
	"fmt"
	"reflect"
)

// Diff leads from one NetMap of a Node to another. It says nothing of whether either is to be trusted: see Change.
type Diff struct {
	// Head is the new map without its Peers, Offers and Uses.
	Head NetMap `json:"head"`
	// SameSeal means that Hub.Seal, which is most of what a small change would carry, is that of the old map and left out of Head.
	SameSeal bool `json:"same_seal,omitempty"`

	Peers  ListDiff[Peer]  `json:"peers,omitzero"`
	Offers ListDiff[Offer] `json:"offers,omitzero"`
	Uses   ListDiff[Use]   `json:"uses,omitzero"`
	// Sources are the Offers whose From was made of an old one; ascending.
	Sources []SourcesDiff `json:"sources,omitempty"`
}

// SourcesDiff makes the From of one Offer: a center may have one Offer that every clinic uses.
type SourcesDiff struct {
	// At is the Offer's place in the new map.
	At int `json:"at"`
	// Was is its place in the old map. No two have the same.
	Was  int              `json:"was"`
	From ListDiff[Source] `json:"from,omitzero"`
}

// MakeDiff returns what leads from old to to. Apply then gives a map with the same canonical form as to.
func MakeDiff(old, to NetMap) Diff {
	d := Diff{
		Head: to,
		Peers: diffList(old.Peers, to.Peers, func(p Peer) string { return p.Node }, func(i, j int) bool {
			return same(old.Peers[i], to.Peers[j])
		}),
		Uses: diffList(old.Uses, to.Uses, func(u Use) [2]string { return [2]string{u.Site, u.Service} }, func(i, j int) bool {
			return same(old.Uses[i], to.Uses[j])
		}),
	}
	d.Head.Peers, d.Head.Offers, d.Head.Uses = nil, nil, nil
	if len(to.Hub.Seal) > 0 && bytes.Equal(old.Hub.Seal, to.Hub.Seal) {
		d.Head.Hub.Seal, d.SameSeal = nil, true
	}
	d.diffOffers(old.Offers, to.Offers)
	return d
}

// diffOffers treats the sources of an Offer as a list of their own. An empty list and none are not the same in the canonical form, so
// that neither is made of another list, nor another of them.
func (d *Diff) diffOffers(old, to []Offer) {
	was, known := offersByName(old)
	if _, sound := offersByName(to); !known || !sound {
		d.Offers = diffList(old, to, func(o Offer) string { return o.Service }, func(i, j int) bool { return same(old[i], to[j]) })
		return
	}
	d.Offers = diffList(old, to, func(o Offer) string { return o.Service }, func(i, j int) bool {
		a, b := old[i], to[j]
		related := len(a.From) > 0 && len(b.From) > 0 || same(a.From, b.From)
		a.From, b.From = nil, nil
		return related && same(a, b)
	})
	put := make(map[int]*Placed[Offer], len(d.Offers.Put))
	for i := range d.Offers.Put {
		put[d.Offers.Put[i].At] = &d.Offers.Put[i]
	}
	for at, o := range to {
		i, known := was[o.Service]
		if !known || len(o.From) == 0 || len(old[i].From) == 0 {
			continue
		}
		from := diffList(old[i].From, o.From, func(s Source) Source { return s }, func(int, int) bool { return true })
		if p := put[at]; p != nil {
			p.Item.From = nil
		} else if from.empty() {
			continue
		}
		d.Sources = append(d.Sources, SourcesDiff{At: at, Was: i, From: from})
	}
}

// offersByName returns the places of all Offers, or false if a name is not unique, which no sound map has.
func offersByName(offers []Offer) (map[string]int, bool) {
	places := make(map[string]int, len(offers))
	for i, o := range offers {
		places[o.Service] = i
	}
	return places, len(places) == len(offers)
}

func same[T any](a, b T) bool { return reflect.DeepEqual(a, b) }

// Apply makes the new map. Parts of it may be shared with old, which stays as it is. What comes back has no more entries than old and d
// have together. An error means that d was not made for old.
func Apply(old NetMap, d Diff) (NetMap, error) {
	m := d.Head
	if d.SameSeal {
		m.Hub.Seal = old.Hub.Seal
	}
	var err error
	if m.Peers, err = d.Peers.apply(old.Peers); err != nil {
		return NetMap{}, fmt.Errorf("peers: %w", err)
	}
	if m.Uses, err = d.Uses.apply(old.Uses); err != nil {
		return NetMap{}, fmt.Errorf("uses: %w", err)
	}
	if m.Offers, err = d.applyOffers(old.Offers); err != nil {
		return NetMap{}, fmt.Errorf("offers: %w", err)
	}
	return m, nil
}

func (d *Diff) applyOffers(old []Offer) ([]Offer, error) {
	offers, err := d.Offers.apply(old)
	if err != nil || len(d.Sources) == 0 {
		return offers, err
	}
	offers = append([]Offer(nil), offers...)
	used := make(map[int]bool, len(d.Sources))
	next := 0
	for _, s := range d.Sources {
		if s.At < next || s.At >= len(offers) || s.Was < 0 || s.Was >= len(old) || used[s.Was] {
			return nil, fmt.Errorf("the sources of offer %d cannot be made of those of %d", s.At, s.Was)
		}
		used[s.Was], next = true, s.At+1
		if offers[s.At].From, err = s.From.apply(old[s.Was].From); err != nil {
			return nil, fmt.Errorf("sources of offer %d: %w", s.At, err)
		}
	}
	return offers, nil
}
