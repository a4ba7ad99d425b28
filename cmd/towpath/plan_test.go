package main

import (
	"bytes"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/provisioning/adminapi"
)

// noon is noon everywhere that tests run: dates are shown in local time.
func noon(y int, m time.Month, d int) time.Time { return time.Date(y, m, d, 12, 0, 0, 0, time.Local) }

func pfx(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// aPlan has one of everything.
func aPlan() adminapi.Plan {
	pool, nord := pfx("10.201.0.0/16"), pfx("10.201.64.0/18")
	return adminapi.Plan{
		Pools: []adminapi.Pool{
			{ID: 1, Prefix: pool, Taken: 0.2501, LargestFree: pfx("10.201.128.0/17"), Strip: []float64{0.01, 0, 0.5, 1}, Note: "all"},
			{ID: 5, Prefix: nord, Parent: pool, Depth: 1, Label: "nord", Taken: 1, Strip: []float64{1, 1}},
		},
		Ranges: []adminapi.Range{
			{ID: 2, Kind: "allocation", Prefix: pfx("10.201.0.0/28"), Owner: "hub", Purpose: "overlay", Pool: pool, State: "active"},
			{ID: 3, Kind: "allocation", Prefix: pfx("10.201.0.16/28"), Pool: pool, State: "quarantined", Purpose: "overlay", Until: noon(2026, 12, 22)},
			{ID: 4, Kind: "reserved", Prefix: pfx("10.201.32.0/20"), Pool: pool, State: "active", Note: "region east"},
			{ID: 6, Kind: "allocation", Prefix: pfx("10.201.64.0/28"), Owner: "praxis", Purpose: "overlay", Pool: nord, State: "ending", Until: noon(2026, 11, 29)},
			{ID: 7, Kind: "allocation", Prefix: pfx("10.201.65.0/24"), Owner: "praxis", Purpose: "mapped", Maps: pfx("192.168.178.0/24"), Pool: nord, State: "active"},
			{ID: 8, Kind: "reserved", Prefix: pfx("10.201.66.0/28"), Owner: "praxis", Pool: nord, State: "active", Label: "growth"},
			{ID: 9, Kind: "foreign", Prefix: pfx("10.50.0.0/16"), State: "active", Note: "hospital"},
			{ID: 10, Kind: "lan", Prefix: pfx("192.168.178.0/24"), Owner: "praxis", State: "active"},
			{ID: 11, Kind: "reported", Prefix: pfx("172.17.0.0/16"), Owner: "praxis", Purpose: "container", State: "active"},
			{ID: 12, Kind: "reserved", Prefix: pfx("10.9.0.0/16"), State: "active"},
		},
		QuarantineSeconds: 30 * 24 * 3600,
	}
}

func wants(t *testing.T, write func(io.Writer) error, want string) {
	t.Helper()
	var b bytes.Buffer
	if err := write(&b); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(strings.TrimLeft(want, "\n"), b.String()); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

func TestPlanShow(t *testing.T) {
	wants(t, func(w io.Writer) error { return printPlan(w, aPlan(), ui.NewGlyphs(false)) }, `
ID  POOL              USED                 LARGEST FREE     LABEL  NOTE
1   10.201.0.0/16     ██▒░░░░░░░   25.0 %  10.201.128.0/17  -      all
    [▁·▄█]
5     10.201.64.0/18  ██████████  100.0 %  none             nord   -
      [██]
    Each mark is an equal part of its pool: · free, ▁ to ▇ partly taken, █ taken.

ID  RANGE             KIND        PURPOSE                  OWNER   LABEL   STATE                         NOTE
2   10.201.0.0/28     allocation  overlay                  hub     -       -                             -
3   10.201.0.16/28    allocation  overlay                  -       -       quarantined until 2026-12-22  -
4   10.201.32.0/20    reserved    -                        -       -       -                             region east
6   10.201.64.0/28    allocation  overlay                  praxis  -       in use until 2026-11-29       -
7   10.201.65.0/24    allocation  mapped 192.168.178.0/24  praxis  -       -                             -
8   10.201.66.0/28    reserved    -                        praxis  growth  -                             -
9   10.50.0.0/16      foreign     -                        -       -       -                             hospital
10  192.168.178.0/24  lan         -                        praxis  -       -                             -
11  172.17.0.0/16     reported    container                praxis  -       -                             -
12  10.9.0.0/16       reserved    -                        -       -       -                             -
`)
	plain := func(w io.Writer) error { return printPools(w, aPlan().Pools, ui.NewGlyphs(true)) }
	wants(t, plain, `
ID  POOL              USED                 LARGEST FREE     LABEL  NOTE
1   10.201.0.0/16     ##+.......   25.0 %  10.201.128.0/17  -      all
    [-.=#]
5     10.201.64.0/18  ##########  100.0 %  none             nord   -
      [##]
    Each mark is an equal part of its pool: . free, - to + partly taken, # taken.
`)
}

func TestPlanTree(t *testing.T) {
	wants(t, func(w io.Writer) error { return ui.NewGlyphs(false).Tree(w, planTree(aPlan())) }, `
10.201.0.0/16            25.0 % used     all
├─ 10.201.64.0/18 nord   100.0 % used
│  └─ praxis
│     ├─ 10.201.64.0/28                  overlay, in use until 2026-11-29
│     ├─ 10.201.65.0/24                  mapped 192.168.178.0/24
│     └─ 10.201.66.0/28                  reserved for it, growth
├─ (quarantined)         10.201.0.16/28  until 2026-12-22
├─ (reserved)            10.201.32.0/20  region east
└─ hub                   10.201.0.0/28   overlay
in no pool
└─ (reserved)            10.9.0.0/16
networks that are there
├─ (foreign)             10.50.0.0/16    hospital
└─ praxis
   ├─ 192.168.178.0/24                   LAN
   └─ 172.17.0.0/16                      reported, containers
`)
}

func TestPlanShowSite(t *testing.T) {
	p := adminapi.SitePlan{
		Site: "praxis", Kind: "clinic", Title: "Praxis Nord",
		Ranges: aPlan().Ranges[3:5],
		Nodes: []adminapi.Place{
			{Node: "node_1", Hostname: "box", Address: netip.MustParseAddr("10.201.70.1"), Former: netip.MustParseAddr("10.201.64.1")},
		},
		Services: []adminapi.Service{
			{Name: "results", Protocol: "hl7", Receiver: "HIS", At: netip.MustParseAddrPort("10.201.70.1:2575"), Target: "192.168.178.20:2575", Users: []string{"lab"}},
			{Name: "store", Protocol: "dicom", AETitle: "ST", Address: netip.MustParseAddr("10.201.71.1"), Port: 11112, Target: "x:104"},
		},
		Mappings: []adminapi.Mapping{{Text: "192.168.178.0/24 appears as 10.201.65.0/24: .20 is 10.201.65.20"}},
		Findings: []adminapi.Finding{{Severity: "warning", Code: "mapping-stale", Site: "praxis", Message: "the LAN is another now", Proposal: "towpath plan unmap praxis 7"}},
	}
	wants(t, func(w io.Writer) error { return printSitePlan(w, p) }, `
Site praxis (clinic), Praxis Nord

Ranges
ID  RANGE           KIND        PURPOSE                  LABEL  STATE                    NOTE
6   10.201.64.0/28  allocation  overlay                  -      in use until 2026-11-29  -
7   10.201.65.0/24  allocation  mapped 192.168.178.0/24  -      -                        -

Boxes
NODE    HOST  ADDRESS      FORMER ADDRESS
node_1  box   10.201.70.1  10.201.64.1

Services
SERVICE  PROTOCOL  NAME THERE  AT                         TARGET               ALLOWED
results  hl7       HIS         10.201.70.1:2575           192.168.178.20:2575  lab
store    dicom     ST          10.201.71.1:11112 (fixed)  x:104                -

Mappings
192.168.178.0/24 appears as 10.201.65.0/24: .20 is 10.201.65.20

Findings
warning  mapping-stale (praxis): the LAN is another now
         do: towpath plan unmap praxis 7
`)
}

func TestRenumberPreview(t *testing.T) {
	r := adminapi.Renumbering{
		Site: "praxis", Old: []netip.Prefix{pfx("10.201.64.0/28")}, New: pfx("10.201.70.0/27"), Until: noon(2026, 11, 29),
		Nodes: []adminapi.MovedNode{{Node: "node_1", Hostname: "box", Old: netip.MustParseAddr("10.201.64.1"), New: netip.MustParseAddr("10.201.70.1")}},
		Services: []adminapi.MovedService{
			{Service: "store", Protocol: "dicom", AETitle: "PRAXIS", Old: netip.MustParseAddrPort("10.201.64.1:11112"), New: netip.MustParseAddrPort("10.201.70.1:11112"), Users: []string{"center", "lab"}},
			{Service: "results", Protocol: "hl7", Old: netip.MustParseAddrPort("10.201.64.1:2575"), New: netip.MustParseAddrPort("10.201.70.1:2575"), Users: []string{}},
		},
	}
	wants(t, func(w io.Writer) error { return printRenumbering(w, r) }, `
Site praxis moves from 10.201.64.0/28 to 10.201.70.0/27. Both work until 2026-11-29 12:00:00.

Boxes, which change by themselves
NODE    HOST  OLD          NEW
node_1  box   10.201.64.1  10.201.70.1

Services, whose users' gateways change by themselves
SERVICE  PROTOCOL  AE TITLE  OLD                NEW                USED BY
store    dicom     PRAXIS    10.201.64.1:11112  10.201.70.1:11112  center, lab
results  hl7       -         10.201.64.1:2575   10.201.70.1:2575   -

AE table lines, for the PACS and whatever else calls these addresses by itself
# old
# AE TITLE  HOST         PORT
PRAXIS      10.201.64.1  11112
# new
# AE TITLE  HOST         PORT
PRAXIS      10.201.70.1  11112
`)
}

func TestWhatIsAnAddress(t *testing.T) {
	at := noon(2026, 11, 22)
	plan := aPlan()
	for i := range plan.Ranges {
		plan.Ranges[i].Created = at
	}
	node := adminapi.Node{ID: "node_1", Site: "praxis", Hostname: "box", Address: netip.MustParseAddr("10.201.64.1"), Enrolled: at.AddDate(0, 0, 1)}
	moved := node
	moved.Address = netip.MustParseAddr("10.201.70.1")
	for _, c := range []struct {
		addr string
		fill func(*whatJSON)
		want string
	}{
		{"10.201.65.20", nil, "10.201.65.20 is 192.168.178.20 at praxis, since 2026-11-22 12:00:00.\n10.201.65.20 is in pool 10.201.64.0/18.\n" +
			"10.201.65.0/24 belongs to praxis (stands for 192.168.178.0/24) since 2026-11-22 12:00:00.\n"},
		{"10.201.65.21", func(x *whatJSON) {
			x.Services = []adminapi.Service{{Name: "store", Site: "praxis", Port: 11112, At: netip.MustParseAddrPort("10.201.65.21:104")}}
		}, "10.201.65.21 is 192.168.178.21 at praxis, since 2026-11-22 12:00:00.\nService store of site praxis is there, port 104.\n10.201.65.21 is in pool 10.201.64.0/18.\n" +
			"10.201.65.0/24 belongs to praxis (stands for 192.168.178.0/24) since 2026-11-22 12:00:00.\n"},
		{"192.168.178.20", nil, "192.168.178.20 is in no pool of the plan.\n192.168.178.0/24 is the LAN of praxis, in the plan since 2026-11-22 12:00:00.\n" +
			"At praxis it appears as 10.201.65.20, since 2026-11-22 12:00:00.\n"},
		{"10.201.64.1", func(x *whatJSON) { x.Node = &node }, "10.201.64.1 is the address of node_1 (box) of site praxis, since 2026-11-23 12:00:00.\n10.201.64.1 is in pool 10.201.64.0/18.\n" +
			"10.201.64.0/28 belongs to praxis (for boxes) since 2026-11-22 12:00:00 and until 2026-11-29.\n"},
		{"10.201.64.1", func(x *whatJSON) { x.Node, x.Former = &moved, true }, "10.201.64.1 was the address of node_1 (box) of site praxis, which still answers there and is now at 10.201.70.1.\n" +
			"10.201.64.1 is in pool 10.201.64.0/18.\n10.201.64.0/28 belongs to praxis (for boxes) since 2026-11-22 12:00:00 and until 2026-11-29.\n"},
		{"10.201.64.2", func(x *whatJSON) {
			x.Services = []adminapi.Service{{Name: "store", Site: "praxis", Port: 11112, Address: x.Address, Created: at.AddDate(0, 0, -1)}}
		}, "10.201.64.2 is the fixed address of service store of site praxis, port 11112, since 2026-11-22 12:00:00.\n10.201.64.2 is in pool 10.201.64.0/18.\n" +
			"10.201.64.0/28 belongs to praxis (for boxes) since 2026-11-22 12:00:00 and until 2026-11-29.\n"},
		{"10.201.0.17", nil, "10.201.0.17 is in pool 10.201.0.0/16.\n10.201.0.16/28 is quarantined until 2026-12-22 and belongs to nobody.\n"},
		{"10.201.200.1", func(x *whatJSON) {
			x.Last = &adminapi.RangeEvent{At: at, Actor: "local", Action: "freed", Range: adminapi.Range{Kind: "allocation", Prefix: pfx("10.201.200.0/28")}}
		}, "10.201.200.1 is in pool 10.201.0.0/16.\nNobody has it.\nLast: allocation 10.201.200.0/28 was freed by local on 2026-11-22 12:00:00.\n"},
		{"8.8.8.8", nil, "8.8.8.8 is in no pool of the plan.\n"},
	} {
		x := &whatJSON{Address: netip.MustParseAddr(c.addr)}
		x.place(plan)
		if c.fill != nil {
			c.fill(x)
		}
		wants(t, func(w io.Writer) error { return printWhat(w, x) }, c.want)
	}
}

func TestRangeNamed(t *testing.T) {
	p := aPlan()
	p.Ranges = append(p.Ranges, adminapi.Range{ID: 13, Kind: "lan", Prefix: pfx("192.168.178.0/24"), Owner: "other"})
	for ref, want := range map[string]int64{"1": 1, "nord": 5, "growth": 8, "10.201.65.0/24": 7, "10.201.0.0/16": 1} {
		if r, err := rangeNamed(p, ref); err != nil || r.ID != want {
			t.Errorf("%q: %d, %v, want %d", ref, r.ID, err, want)
		}
	}
	for ref, want := range map[string]string{
		"":                 `no range ""`,
		"0":                `no range "0"`,
		"99":               `no range "99"`,
		"10.201.65.0/25":   `no range "10.201.65.0/25"`,
		"192.168.178.0/24": "several ranges: 10 (lan praxis), 13 (lan other)",
	} {
		if r, err := rangeNamed(p, ref); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %d, %v, want %q", ref, r.ID, err, want)
		}
	}
}

func TestFreePhrases(t *testing.T) {
	wants(t, func(w io.Writer) error {
		return printFree(w, []adminapi.Free{
			{Pool: pfx("10.0.0.0/8"), Total: 2, Blocks: []netip.Prefix{pfx("10.0.0.0/9")}},
			{Pool: pfx("10.1.0.0/16"), Bits: 28, Total: 1, Next: pfx("10.1.0.0/28"), Fits: 4096, Blocks: []netip.Prefix{pfx("10.1.0.0/16")}},
			{Pool: pfx("10.2.0.0/16"), Bits: 28, Total: 1, Blocks: []netip.Prefix{pfx("10.2.0.0/29")}},
			{Pool: pfx("10.3.0.0/16")},
		})
	}, `
Pool 10.0.0.0/8 has 2 free blocks:
  10.0.0.0/9
  and 1 more

Pool 10.1.0.0/16 has room for 4096 more /28, the next at 10.1.0.0/28. Its 1 free block:
  10.1.0.0/16

Pool 10.2.0.0/16 has no room for a /28 in its 1 free block:
  10.2.0.0/29

Pool 10.3.0.0/16 is full.
`)
}

func TestLocaleDecidesOnUnicode(t *testing.T) {
	for _, c := range []struct {
		env  map[string]string
		want bool
	}{
		{nil, false},
		{map[string]string{"LANG": "de_DE.UTF-8"}, true},
		{map[string]string{"LANG": "C.utf8"}, true},
		{map[string]string{"LANG": "de_DE.UTF-8", "LC_ALL": "C"}, false},
		{map[string]string{"LANG": "C", "LC_CTYPE": "en_US.UTF-8"}, true},
		{map[string]string{"LANG": "de_DE.UTF-8", "TERM": "dumb"}, false},
		{map[string]string{"LANG": "de_DE@euro"}, false},
	} {
		if got := speaksUTF8(func(k string) string { return c.env[k] }); got != c.want {
			t.Errorf("%v: %v, want %v", c.env, got, c.want)
		}
	}
}
