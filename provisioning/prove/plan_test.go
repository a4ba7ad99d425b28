package prove_test

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/towpath/towpath/ipam/plandoc"
	"github.com/towpath/towpath/provisioning/prove"
)

// drawEntry makes ranges that often meet, and that are often wrong in themselves.
func drawEntry(t *rapid.T) plandoc.Entry {
	e := plandoc.Entry{
		Kind: rapid.SampledFrom([]plandoc.Kind{
			plandoc.Allocation, plandoc.Allocation, plandoc.Reserved, plandoc.Foreign, plandoc.LAN, plandoc.Reported, plandoc.Reported, plandoc.Pool,
		}).Draw(t, "kind"),
		Prefix: netip.PrefixFrom(v4(10<<24|rapid.Uint32Range(0, 255).Draw(t, "host")), rapid.IntRange(24, 32).Draw(t, "bits")).Masked(),
		Owner:  rapid.SampledFrom([]string{"", "a", "a", "b"}).Draw(t, "owner"), Label: rapid.SampledFrom([]string{"", "", "x", "y"}).Draw(t, "label"),
	}
	switch e.Kind {
	case plandoc.Allocation:
		e.Purpose = plandoc.Overlay
	case plandoc.Reported:
		e.Purpose = rapid.SampledFrom([]string{plandoc.ReportedLAN, plandoc.ReportedWAN}).Draw(t, "purpose")
	default:
	}
	if rapid.IntRange(0, 4).Draw(t, "ends") == 0 {
		e.Until = issued.Add(time.Duration(rapid.IntRange(0, 1).Draw(t, "when")) * time.Hour)
	}
	return e
}

// TestARangeIsCheckedAsIfThePlanWereNew adds and removes ranges one by one: the indexes that spare a look at the whole plan hide nothing.
// Most steps go back from what is wrong, so that the next one meets a plan that is clean.
func TestARangeIsCheckedAsIfThePlanWereNew(t *testing.T) {
	clean, wrong := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		p, err := prove.NewProver()
		if err != nil {
			t.Fatal(err)
		}
		have := []plandoc.Entry{{Kind: plandoc.Pool, Prefix: prefix("10.0.0.0/8")}}
		if err := p.Update(prove.Input{}, planOf(have...)); err != nil {
			t.Fatal(err)
		}
		step := func(remove, add []plandoc.Entry) bool {
			if err := p.Update(planOf(remove...), planOf(add...)); err != nil {
				t.Fatal(err)
			}
			got, gotErr := p.Prove(stamp)
			want, wantErr := prove.Prove(planOf(have...), stamp)
			if a, b := answer(t, got, gotErr), answer(t, want, wantErr); a != b {
				t.Fatalf("with %v, step by step and at once differ:\n%s\n%s", have, a, b)
			}
			return len(plandoc.Check(plandoc.Document{Entries: have}, plandoc.Document{})) == 0
		}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			if len(have) > 1 && rapid.IntRange(0, 4).Draw(t, "remove") == 0 {
				i := rapid.IntRange(0, len(have)-1).Draw(t, "which")
				gone := have[i]
				have = append(have[:i:i], have[i+1:]...)
				step([]plandoc.Entry{gone}, nil)
				continue
			}
			e := drawEntry(t)
			have = append(have, e)
			if step(nil, []plandoc.Entry{e}) {
				clean++
				continue
			}
			wrong++
			if rapid.IntRange(0, 5).Draw(t, "keep") > 0 {
				have = have[:len(have)-1]
				step([]plandoc.Entry{e}, nil)
			}
		}
	})
	if all := clean + wrong; clean < all/20 || wrong < all/20 {
		t.Errorf("%d plans were clean and %d wrong, too few to say anything", clean, wrong)
	}
}

func planOf(entries ...plandoc.Entry) prove.Input {
	return prove.Input{Plan: plandoc.Document{Entries: entries}}
}

// TestChangesReachWhatTheyDoNotName has changes in one place that break something which only reads of it.
func TestChangesReachWhatTheyDoNotName(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*prove.Input)
		want   string
	}{
		"the pools of a service's own address": {
			func(in *prove.Input) {
				in.Plan.Entries = slices.DeleteFunc(in.Plan.Entries, func(e plandoc.Entry) bool {
					return e.Kind == plandoc.Pool && e.Prefix.Contains(netip.MustParseAddr("10.71.0.1"))
				})
			},
			"the address 10.71.0.1 of service offer0 lies in no pool",
		},
		"another peer has the address": {
			func(in *prove.Input) {
				center := &in.Maps[0]
				center.Peers[0].AllowedIPs = append(center.Peers[0].AllowedIPs, center.Peers[1].AllowedIPs[0])
			},
			"node node0-0 of name0 cannot use offer2 of name2: 10.0.0.49 is not an allowed IP of exactly one peer",
		},
		"another peer has a range around the address": {
			func(in *prove.Input) {
				center := &in.Maps[0]
				center.Peers[0].AllowedIPs = append(center.Peers[0].AllowedIPs, prefix("10.0.0.48/28"))
			},
			"node node2-0 of name2 cannot use offer0 of name0: node node0-0 does not hold its key with its addresses",
		},
	} {
		s := large(t, 2)
		fixAddresses(&s, 0, func(int) bool { return true })
		sound := cloned(t, compiled(t, s))
		p, err := prove.NewProver()
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Update(prove.Input{}, sound); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Prove(stamp); err != nil {
			t.Fatal(err)
		}
		broken := cloned(t, sound)
		tt.change(&broken)
		d := prove.Between(sound, broken)
		if err := p.Update(d.Remove, d.Add); err != nil {
			t.Fatal(err)
		}
		got, gotErr := p.Prove(stamp)
		want, wantErr := prove.Prove(broken, stamp)
		if a, b := answer(t, got, gotErr), answer(t, want, wantErr); a != b {
			t.Errorf("%s: step by step and at once differ:\n%s\n%s", name, a, b)
		}
		bad, _ := errors.AsType[*prove.RefutedError](gotErr)
		if !slices.Contains(texts(bad), tt.want) {
			t.Errorf("%s: %q is missing in\n%s", name, tt.want, strings.Join(texts(bad), "\n"))
		}
	}
}
