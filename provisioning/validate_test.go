package provisioning

import (
	"errors"
	"strings"
	"testing"

	"github.com/towpath/towpath/provisioning/wire"
)

// verdict fails unless err is nil as wanted, or Invalid with a message and a hint that hold the words.
func verdict(t *testing.T, err error, ok bool, words ...string) {
	t.Helper()
	if ok {
		if err != nil {
			t.Errorf("refused: %v", err)
		}
		return
	}
	e, is := errors.AsType[*Error](err)
	if !is || e.Code != Invalid || e.Message == "" || e.Hint == "" {
		t.Errorf("got %#v, want an invalid *Error with a message and a hint", err)
		return
	}
	for _, w := range words {
		if !strings.Contains(e.Message+"\n"+e.Hint, w) {
			t.Errorf("%q, %q does not say %q", e.Message, e.Hint, w)
		}
	}
}

func TestCheckName(t *testing.T) {
	for _, tt := range []struct {
		in   string
		ok   bool
		says string
	}{
		{"praxis-nord-2", true, ""},
		{"a", true, ""},
		{"7-hills", true, ""},
		{strings.Repeat("a", 63), true, ""},
		{strings.Repeat("a", 64), false, "63"},
		{"", false, "no name"},
		{"hub", false, "coordinator"},
		{"Hub", false, "lower-case"},
		{"Praxis Müller & Söhne", false, `"praxis-mueller-soehne"`},
		{"-a", false, `"a"`},
		{"a-", false, `"a"`},
		{"a--b", false, `"a-b"`},
		{"site_a", false, `"site-a"`},
		{"日本", false, "lower-case"},
		{"a\n", false, `"a"`},
		{"a\x00\xff", false, `"a"`},
	} {
		t.Run(tt.in, func(t *testing.T) { verdict(t, CheckName("site", tt.in), tt.ok, tt.says) })
	}
}

func TestCheckAETitle(t *testing.T) {
	for _, tt := range []struct {
		in   string
		ok   bool
		says string
	}{
		{"PACS", true, ""},
		{"PACS MAIN", true, ""},
		{"a.b-c_d/e:f#1 ~^", true, ""},
		{"1234567890123456", true, ""},
		{"12345678901234567", false, "allows 16"},
		{"", false, "empty"},
		{"    ", false, "empty"},
		{" PACS", false, "space"},
		{"PACS ", false, "space"},
		{`A\B`, false, `'\\'`},
		{"A\nB", false, `'\n'`},
		{"A\x7f", false, "not allow"},
		{"RÖNTGEN", false, "'Ö'"},
		{"A\xff", false, "not allow"},
	} {
		t.Run(tt.in, func(t *testing.T) { verdict(t, CheckAETitle(tt.in), tt.ok, tt.says) })
	}
}

func TestCheckReceiver(t *testing.T) {
	for in, ok := range map[string]bool{
		"HIS": true, "HIS^WARD": true, "Praxis Süd^Haus 2": true, strings.Repeat("x", 227): true,
		"": false, "^": false, "HIS^": false, "^WARD": false, "A^B^C": false, "A|B": false, "A&B": false, `A\B`: false, "A~B": false,
		" HIS": false, "HIS ^WARD": false, "HIS\r": false, "A\xff": false, strings.Repeat("x", 228): false,
	} {
		t.Run(in, func(t *testing.T) { verdict(t, CheckReceiver(in), ok) })
	}
}

func TestCheckHostPort(t *testing.T) {
	for _, tt := range []struct {
		in   string
		ok   bool
		says string
	}{
		{"192.168.1.5:104", true, ""},
		{"[fd00::5]:104", true, ""},
		{"127.0.0.1:4242", true, ""},
		{"pacs.praxis.local:11112", true, ""},
		{"PACS_01:1", true, ""},
		{"pacs.example.:65535", true, ""},
		{"xn--mller-kva.example:104", true, ""},
		{"", false, "missing"},
		{"192.168.1.5", false, `"192.168.1.5:104"`},
		{"fd00::5", false, `"[fd00::5]:104"`},
		{"[fd00::5]", false, `"[fd00::5]:104"`},
		{"pacs", false, `"pacs:104"`},
		{"pacs:", false, "1 to 65535"},
		{"pacs:0", false, "1 to 65535"},
		{"pacs:0104", false, "1 to 65535"},
		{"pacs:65536", false, "1 to 65535"},
		{"pacs:dicom", false, "1 to 65535"},
		{"pacs:+1", false, "1 to 65535"},
		{":104", false, "no host"},
		{"http://pacs:104", false, "web address"},
		{"pacs:104/aet", false, "web address"},
		{" pacs:104", false, "space"},
		{"a b:104", false, "neither"},
		{"a..b:104", false, "neither"},
		{"-a:104", false, "neither"},
		{"müller:104", false, "neither"},
		{"192.168.1:104", false, "looks like an address"},
		{"192.168.1.256:104", false, "looks like an address"},
		{"0.0.0.0:104", false, "one machine"},
		{"[::]:104", false, "one machine"},
		{"224.0.0.1:104", false, "one machine"},
		{"[fe80::1%eth0]:104", false, "interface"},
		{"fd00::5:104:x:y", false, "host:port"},
		{strings.Repeat("a.", 140) + "b:104", false, "too long"},
	} {
		t.Run(tt.in, func(t *testing.T) { verdict(t, CheckTarget(tt.in), tt.ok, tt.says) })
	}
	verdict(t, CheckEndpoint("vpn.example"), false, "endpoint", `"vpn.example:51820"`)
}

func validSite() Site {
	return Site{ID: NewSiteID(), Name: "praxis-nord", Kind: wire.Clinic, Title: "Praxis Dr. Müller, Nürnberg", Endpoint: "vpn.example:51820"}
}

func validService() Service {
	return Service{
		ID: NewServiceID(), Site: NewSiteID(), Name: "pacs", Protocol: wire.DICOM, AETitle: "PACS", Mode: wire.Queued,
		Target: "10.0.0.5:104", Port: 11112,
	}
}

func TestSiteValidate(t *testing.T) {
	for what, tt := range map[string]struct {
		change func(*Site)
		ok     bool
		says   string
	}{
		"valid":          {func(*Site) {}, true, ""},
		"calls out only": {func(s *Site) { s.Endpoint = "" }, true, ""},
		"no title":       {func(s *Site) { s.Title = "" }, true, ""},
		"no id":          {func(s *Site) { s.ID = "" }, false, "id"},
		"name":           {func(s *Site) { s.Name = "X" }, false, "name"},
		"kind":           {func(s *Site) { s.Kind = "hospital" }, false, `"clinic" or "center"`},
		"long title":     {func(s *Site) { s.Title = strings.Repeat("x", 201) }, false, "200"},
		"two lines":      {func(s *Site) { s.Title = "a\nb" }, false, "one line"},
		"endpoint":       {func(s *Site) { s.Endpoint = "vpn.example" }, false, "endpoint"},
	} {
		t.Run(what, func(t *testing.T) {
			s := validSite()
			tt.change(&s)
			verdict(t, s.Validate(), tt.ok, tt.says)
		})
	}
}

func TestServiceValidate(t *testing.T) {
	hl7 := func(s *Service) { s.Protocol, s.AETitle = wire.HL7, "" }
	for what, tt := range map[string]struct {
		change func(*Service)
		ok     bool
		says   string
	}{
		"DICOM":                  {func(*Service) {}, true, ""},
		"pass-through":           {func(s *Service) { s.Mode = wire.PassThrough }, true, ""},
		"HL7":                    {hl7, true, ""},
		"HL7 with a receiver":    {func(s *Service) { hl7(s); s.Receiver = "HIS" }, true, ""},
		"id of a site":           {func(s *Service) { s.ID = ServiceID(NewSiteID()) }, false, "id of a site"},
		"site":                   {func(s *Service) { s.Site = "praxis" }, false, "site"},
		"name":                   {func(s *Service) { s.Name = "" }, false, "name"},
		"protocol":               {func(s *Service) { s.Protocol = "fhir" }, false, "dicom"},
		"mode":                   {func(s *Service) { s.Mode = "" }, false, "queued"},
		"DICOM without AE title": {func(s *Service) { s.AETitle = "" }, false, "AE title"},
		"DICOM with a receiver":  {func(s *Service) { s.Receiver = "HIS" }, false, "receiver"},
		"HL7 with AE title":      {func(s *Service) { hl7(s); s.AETitle = "X" }, false, "AE title"},
		"HL7 receiver":           {func(s *Service) { hl7(s); s.Receiver = "A|B" }, false, "receiver"},
		"target":                 {func(s *Service) { s.Target = "pacs" }, false, "target"},
		"port":                   {func(s *Service) { s.Port = 0 }, false, "port on the overlay"},
	} {
		t.Run(what, func(t *testing.T) {
			s := validService()
			tt.change(&s)
			verdict(t, s.Validate(), tt.ok, tt.says)
		})
	}
}

func TestGrantValidate(t *testing.T) {
	g := Grant{Service: NewServiceID(), Site: NewSiteID(), LANPort: 104}
	verdict(t, g.Validate(), true)
	g.LANPort = 0
	verdict(t, g.Validate(), false, "port on the LAN")
	g = Grant{Service: "x", Site: NewSiteID(), LANPort: 104}
	verdict(t, g.Validate(), false, "service")
	g = Grant{Service: NewServiceID(), Site: "x", LANPort: 104}
	verdict(t, g.Validate(), false, "site")
}

func TestIDs(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		s, n, k, v := NewSiteID(), NewNodeID(), NewTokenID(), NewServiceID()
		for _, err := range []error{s.Validate(), n.Validate(), k.Validate(), v.Validate()} {
			verdict(t, err, true)
		}
		seen[string(s)], seen[string(n)], seen[string(k)], seen[string(v)] = true, true, true, true
	}
	if len(seen) != 4000 {
		t.Errorf("%d of 4000 ids are different", len(seen))
	}
	verdict(t, SiteID(NewTokenID()).Validate(), false, "id of a token", `"site_"`)
	for _, bad := range []string{"", "site_", "site_ABCDEFGHIJKLMNOP", "site_abcdefghijklmno", "site_abcdefghijklmnopq", "site_abcdefghijklmno1"} {
		verdict(t, SiteID(bad).Validate(), false, "site_")
	}
}

// FuzzChecks looks for crashes, for errors that are not for people, and for texts that pass although they break a later format.
func FuzzChecks(f *testing.F) {
	for _, s := range []string{"", "praxis-nord", "PACS MAIN", "HIS^WARD", "192.168.1.5:104", "[fd00::5%x]:1", "a:b:c", "\xff\\", "[", "]:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for name, err := range map[string]error{
			"name": CheckName("site", s), "title": CheckAETitle(s), "receiver": CheckReceiver(s), "target": CheckTarget(s),
			"endpoint": CheckEndpoint(s), "id": SiteID(s).Validate(),
		} {
			if err != nil {
				verdict(t, err, false)
			} else if s == "" || strings.ContainsAny(s, "\r\n\x00") || len(s) > 300 {
				t.Errorf("%q passes as %s", s, name)
			}
		}
		if n := Slug(s); n != "" && n != reservedName && CheckName("site", n) != nil {
			t.Errorf("the proposal %q for %q is refused itself", n, s)
		}
	})
}
