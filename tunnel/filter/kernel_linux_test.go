package filter_test

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/tunnel/filter"
	"github.com/towpath/towpath/tunnel/tunneltest"
)

// needKernel makes a namespace, or skips where the kernel has no nf_tables.
func needKernel(t *testing.T) *tunneltest.Namespace {
	t.Helper()
	ns := tunneltest.NewNamespace(t)
	err := ns.Do(func() error {
		_, err := new(filter.Kernel).Status(t.Context())
		return err
	})
	if errors.Is(err, filter.ErrUnavailable) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return ns
}

func apply(t *testing.T, ns *tunneltest.Namespace, k *filter.Kernel, r filter.Ruleset) {
	t.Helper()
	if err := ns.Do(func() error { return k.Apply(context.Background(), r) }); err != nil {
		t.Fatal(err)
	}
}

func status(t *testing.T, ns *tunneltest.Namespace, k *filter.Kernel) (s filter.Status) {
	t.Helper()
	if err := ns.Do(func() (err error) {
		s, err = k.Status(context.Background())
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return s
}

// nft runs nft(8) in the namespace.
func nft(t *testing.T, ns *tunneltest.Namespace, stdin string, args ...string) string {
	t.Helper()
	program, err := exec.LookPath("nft")
	if err != nil {
		t.Skip("needs nft(8) to compare with")
	}
	var out []byte
	if err := ns.Do(func() error {
		c := exec.Command(program, args...)
		c.Stdin = strings.NewReader(stdin)
		out, err = c.CombinedOutput()
		return err
	}); err != nil {
		t.Fatalf("nft %v: %v: %s", args, err, out)
	}
	return string(out)
}

// TestKernelHoldsWhatIsRendered: nft(8), which neither wrote the text nor the rules, makes of the text what it finds in the kernel.
func TestKernelHoldsWhatIsRendered(t *testing.T) {
	for name, r := range map[string]filter.Ruleset{"clinic": clinic(), "office": office(), "conflict": conflict()} {
		t.Run(name, func(t *testing.T) {
			ours, theirs := needKernel(t), needKernel(t)
			apply(t, ours, &filter.Kernel{}, r)
			text, err := filter.Render(r)
			if err != nil {
				t.Fatal(err)
			}
			nft(t, theirs, text, "-f", "-")
			want, got := nft(t, theirs, "", "-s", "list", "ruleset"), nft(t, ours, "", "-s", "list", "ruleset")
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("-what nft makes of the text +what is in the kernel:\n%s", d)
			}
			if strings.Count(got, "drop") < 15 {
				t.Errorf("what was compared has no rules:\n%s", got)
			}
		})
	}
}

// TestOthersTablesStay: our table comes, changes and goes; another one, also one with a similar name, stays as it is.
func TestOthersTablesStay(t *testing.T) {
	ns, k := needKernel(t), &filter.Kernel{}
	nft(t, ns, "table inet filter {\n chain input {\n type filter hook input priority 0; policy drop;\n }\n}\ntable ip towpath {\n chain x {\n }\n}\n", "-f", "-")
	before := nft(t, ns, "", "list", "ruleset")
	apply(t, ns, k, clinic())
	apply(t, ns, k, office())
	with := nft(t, ns, "", "list", "ruleset")
	for line := range strings.Lines(before) {
		if !strings.Contains(with, line) {
			t.Errorf("missing: %s", line)
		}
	}
	if strings.Contains(with, `"lan0"`) || !strings.Contains(with, `"eth0"`) {
		t.Errorf("the second table did not replace the first:\n%s", with)
	}
	for range 2 {
		if err := ns.Do(func() error { return k.Remove(context.Background()) }); err != nil {
			t.Fatal(err)
		}
	}
	if d := cmp.Diff(before, nft(t, ns, "", "list", "ruleset")); d != "" {
		t.Errorf("after removal -want +got:\n%s", d)
	}
	if s := status(t, ns, k); s.Loaded || s.Intact {
		t.Errorf("after removal: %+v", s)
	}
}

// TestNoticesOthersHands: what somebody changes in our table is seen, and put right by the next Apply.
func TestNoticesOthersHands(t *testing.T) {
	ns, k := needKernel(t), &filter.Kernel{}
	if s := status(t, ns, k); s.Loaded {
		t.Errorf("before: %+v", s)
	}
	for name, change := range map[string][]string{
		"nothing": {"list", "ruleset"}, "flush": {"flush", "ruleset"}, "delete": {"delete", "table", "inet", "towpath"},
		"a rule":       {"insert", "rule", "inet", "towpath", "leaving", "accept"},
		"no rules":     {"flush", "chain", "inet", "towpath", "entering"},
		"an address":   {"delete", "element", "inet", "towpath", "closed4", "{ 10.201.0.0/16 }"},
		"an interface": {"add", "element", "inet", "towpath", "lan", `{ "wan0" }`},
		"a chain":      {"add", "chain", "inet", "towpath", "more"},
	} {
		apply(t, ns, k, clinic())
		if s := status(t, ns, k); !s.Loaded || !s.Intact {
			t.Fatalf("after Apply: %+v", s)
		}
		nft(t, ns, "", change...)
		if s := status(t, ns, k); s.Intact != (name == "nothing") {
			t.Errorf("%s: intact: %v", name, s.Intact)
		}
	}
	// Another process, which has not applied anything: it sees that there is a table, and does not know whose.
	apply(t, ns, k, clinic())
	if s := status(t, ns, &filter.Kernel{}); !s.Loaded || s.Intact || len(s.Dropped) == 0 {
		t.Errorf("another process sees %+v", s)
	}
}

// TestLargePlan: a center's table is one transaction, too.
func TestLargePlan(t *testing.T) {
	ns, k := needKernel(t), &filter.Kernel{}
	r := large(t)
	apply(t, ns, k, r)
	if s := status(t, ns, k); !s.Intact {
		t.Errorf("%+v", s)
	}
	r.Open = r.Open[:10]
	apply(t, ns, k, r)
	if s := status(t, ns, k); !s.Intact {
		t.Errorf("%+v", s)
	}
}
