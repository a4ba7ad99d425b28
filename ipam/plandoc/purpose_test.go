package plandoc_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/towpath/towpath/ipam/plandoc"
)

func TestReadCSVKnowsPurposes(t *testing.T) {
	d, problems := readCSV(t, strings.Join([]string{
		"Praxis;Netz;Art;Zweck;Bildet ab;Bemerkung;Label",
		"nord;10.1.0.0/24;;;;MRT;n1",
		"nord;10.1.1.0/24;;Abbildung;192.168.178.0/24",
		"nord;10.1.2.0/24;;;192.168.178.0-192.168.178.255",
		"nord;10.1.3.0/24;Zuteilung;Arbeitsplätze",
		"nord;10.1.4.0/24;vergeben;Dienste",
		"nord;192.168.178.0/24;gemeldet;LAN",
		"nord;203.0.113.0/29;reported;Internet",
		"nord;172.17.0.0/16;reported;Docker",
	}, "\n"))
	var got []string
	for _, e := range d.Entries {
		words := []string{e.Prefix.String(), string(e.Kind), e.Purpose}
		if e.Maps.IsValid() {
			words = append(words, e.Maps.String())
		}
		got = append(got, strings.Join(words, " "))
	}
	want := []string{
		"10.1.0.0/24 allocation overlay",
		"10.1.1.0/24 allocation mapped 192.168.178.0/24",
		"10.1.2.0/24 allocation mapped 192.168.178.0/24",
		"10.1.3.0/24 allocation workstation",
		"10.1.4.0/24 allocation services",
		"192.168.178.0/24 reported lan",
		"203.0.113.0/29 reported wan",
		"172.17.0.0/16 reported container",
	}
	if !slices.Equal(got, want) || len(problems) > 0 {
		t.Errorf("got\n%s\nwant\n%s\nproblems %q", strings.Join(got, "\n"), strings.Join(want, "\n"), problems)
	}
}

func TestReadCSVRefusesOtherPurposes(t *testing.T) {
	d, got := readCSV(t, strings.Join([]string{
		"site,range,kind,purpose,maps",
		"nord,10.1.0.0/24,,MRT rooms,",
		",10.0.0.0/8,pool,for all,",
		"nord,192.168.178.0/24,lan,lan,",
		"nord,10.2.0.0/24,reported,,",
		"nord,10.2.0.0/24,reported,overlay,",
		"nord,10.1.1.0/24,,mapped,",
		"nord,10.1.1.0/24,,mapped,192.168.0.0/16",
		"nord,10.1.1.0/24,,mapped,192.168.1.0-192.168.2.255",
		"nord,10.1.1.0/24,,mapped,192.168.1.7/24",
		"nord,10.1.1.0/24,,services,192.168.1.0/24",
		"nord,10.1.1.0-10.1.3.255,,,192.168.1.0/24",
	}, "\n"))
	want := []string{
		`line 2: 10.1.0.0/24 of nord cannot have the purpose "MRT rooms": use overlay, mapped, workstation or services, and write other words into the comment`,
		`line 3: the pool 10.0.0.0/8 can have no purpose: write "for all" into the comment`,
		`line 4: the LAN 192.168.178.0/24 of nord can have no purpose: write "lan" into the comment`,
		`line 5: the reported network 10.2.0.0/24 of nord has no purpose: use lan, wan or container`,
		`line 6: the reported network 10.2.0.0/24 of nord cannot have the purpose "overlay": use lan, wan or container, and write other words into the comment`,
		`line 7: 10.1.1.0/24 of nord is mapped, but does not say what it maps: name the part of the LAN that it stands for`,
		`line 8: 10.1.1.0/24 of nord cannot map 192.168.0.0/16: both must be of one family and length`,
		`line 9: what it maps, 192.168.1.0-192.168.2.255, is not one prefix: give each prefix a line`,
		`line 10: what it maps: malformed prefix: 192.168.1.7/24 has bits set beyond its length, the network is 192.168.1.0/24`,
		`line 11: 10.1.1.0/24 of nord maps 192.168.1.0/24, but its purpose is not mapped`,
		`line 12: 10.1.2.0/23 of nord cannot map 192.168.1.0/24: both must be of one family and length`,
	}
	if !slices.Equal(got, want) || len(d.Entries) > 0 {
		t.Errorf("got\n%s\nwant\n%s\nand %v", strings.Join(got, "\n"), strings.Join(want, "\n"), d.Entries)
	}
}

func TestCheckKnowsReportsLabelsAndEnds(t *testing.T) {
	doc, problems := readCSV(t, strings.Join([]string{
		"site,range,kind,purpose,label,until",
		",10.0.0.0/8,pool,,all,",
		"nord,10.1.0.0/24,,,n,",
		"nord,10.1.0.128/25,reported,lan,,",
		"nord,10.2.0.0/24,reported,wan,,",
		"nord,192.168.0.0/24,reported,lan,,",
		"nord,192.168.0.0/24,reported,container,,",
		"nord,192.168.0.0/24,reported,lan,,",
		",192.168.1.0/24,reported,lan,,",
		"sued,10.3.0.0/24,reserved,,n,",
		"sued,10.4.0.0/24,reserved,,old,",
		"sued,10.5.0.0/24,reserved,,,2027-01-01",
		",10.6.0.0/24,reserved,,,2027-01-01",
		"sued,10.7.0.0/24,,,,2027-01-01",
		",172.16.0.0/12,foreign,,x,2027-01-01",
		",172.16.0.0/12,foreign,,,",
		"sued,10.128.0.0/9,pool,,,2027-01-01",
	}, "\n"))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	plan := plandoc.Document{Entries: []plandoc.Entry{entry(plandoc.Reserved, "10.9.0.0/24", "", "", 0)}}
	plan.Entries[0].Label = "old"
	want := []string{
		`line 4: the reported LAN 10.1.0.128/25 of nord overlaps the pool 10.0.0.0/8 in line 2`,
		`line 4: the reported LAN 10.1.0.128/25 of nord overlaps 10.1.0.0/24 of nord in line 3`,
		`line 5: the reported WAN 10.2.0.0/24 of nord overlaps the pool 10.0.0.0/8 in line 2`,
		`line 8: the reported LAN 192.168.0.0/24 of nord is there twice, first in line 6`,
		`line 9: the reported LAN 192.168.1.0/24 belongs to no site: name it, or call it foreign`,
		`line 10: the reserved 10.3.0.0/24 of sued has the label "n", which is that of 10.1.0.0/24 of nord in line 3`,
		`line 11: the reserved 10.4.0.0/24 of sued has the label "old", which is that of the reserved 10.9.0.0/24 in the plan`,
		`line 12: the reserved 10.5.0.0/24 of sued cannot end: leave out the end, or the site`,
		`line 15: the foreign network 172.16.0.0/12 cannot end: leave out the end`,
		`line 15: the foreign network 172.16.0.0/12 cannot have the label "x": write it into the comment`,
		`line 17: the pool 10.128.0.0/9 of sued cannot belong to a site: leave the site out, or call the range an allocation`,
		`line 17: the pool 10.128.0.0/9 of sued cannot end: leave out the end`,
	}
	got := words(plandoc.Check(doc, plan))
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestDiffKnowsMaps(t *testing.T) {
	a, _ := readCSV(t, "site,range,maps\nnord,10.1.0.0/24,192.168.178.0/24\n")
	b, _ := readCSV(t, "site,range,maps,purpose,kind\nnord,10.1.0.0/24,192.168.1.0/24,,\nnord,10.2.0.0/24,192.168.178.0/24,,\nnord,10.3.0.0/24,,services,\nnord,10.4.0.0/24,,wan,reported\n")
	want := []string{
		`~ 10.1.0.0/24 of nord: mapped LAN "192.168.178.0/24" is now "192.168.1.0/24"`,
		`+ 10.2.0.0/24 of nord, maps 192.168.178.0/24`,
		`+ 10.3.0.0/24 of nord, for services`,
		`+ the reported WAN 10.4.0.0/24 of nord`,
	}
	var got []string
	for _, c := range plandoc.Diff(a, b) {
		got = append(got, c.String())
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
