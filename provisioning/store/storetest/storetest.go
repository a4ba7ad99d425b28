package storetest

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// Run runs the contract. open returns an empty Store that is closed when its test ends.
func Run(t *testing.T, open func(*testing.T) store.Store) {
	for _, tt := range []struct {
		name string
		test func(*testing.T, store.Store)
	}{
		{"Sites", testSites},
		{"Nodes", testNodes},
		{"NodeReports", testNodeReports},
		{"NodeKeys", testNodeKeys},
		{"NodeAddresses", testNodeAddresses},
		{"Tokens", testTokens},
		{"SpoolKeys", testSpoolKeys},
		{"PairMail", testPairMail},
		{"Services", testServices},
		{"ServiceAddresses", testServiceAddresses},
		{"Grants", testGrants},
		{"Settings", testSettings},
		{"Generation", testGeneration},
		{"Rise", testRise},
		{"ViewCannotWrite", testViewCannotWrite},
		{"Rollback", testRollback},
		{"RollbackOnPanic", testRollbackOnPanic},
		{"TxEnds", testTxEnds},
		{"Canceled", testCanceled},
		{"ConsistentView", testConsistentView},
		{"Watch", testWatch},
		{"WatchEnds", testWatchEnds},
		{"WatchMany", testWatchMany},
		{"Events", testEvents},
		{"RangeRows", testRangeRows},
		{"RangeOrder", testRangeOrder},
		{"RangeMatrix", testRangeMatrix},
		{"RangeNetworks", testRangeNetworks},
		{"RangeOnce", testRangeOnce},
		{"RangeErrors", testRangeErrors},
		{"RangeInvalid", testRangeInvalid},
		{"RangeLabels", testRangeLabels},
		{"RangeMaps", testRangeMaps},
		{"RangeEnd", testRangeEnd},
		{"RangeQuarantine", testRangeQuarantine},
		{"RangeQuarantinedAtOnce", testRangeQuarantinedAtOnce},
		{"PoolsNest", testPoolsNest},
		{"PoolGaps", testPoolGaps},
		{"PoolEqual", testPoolEqual},
		{"RangeOverlapping", testRangeOverlapping},
		{"RangeRevision", testRangeRevision},
		{"History", testHistory},
		{"HistoryErrors", testHistoryErrors},
		{"ConcurrentWriters", testConcurrentWriters},
		{"ConcurrentKinds", testConcurrentKinds},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.test(t, open(t)) })
	}
	t.Run("RangeModel", func(t *testing.T) { testRangeModel(t, open) })
}

// now is a time with nanoseconds, which a Store must keep.
func now() time.Time { return time.Date(2026, 11, 22, 13, 14, 15, 123456789, time.UTC) }

func update(t testing.TB, s store.Store, fn func(store.Tx) error) {
	t.Helper()
	if err := s.Update(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

func view(t testing.TB, s store.Store, fn func(store.Tx) error) {
	t.Helper()
	if err := s.View(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

// refused runs fn, which must fail with want, in a transaction of its own.
func refused(t testing.TB, s store.Store, want error, what string, fn func(store.Tx) error) {
	t.Helper()
	if err := s.Update(t.Context(), fn); !errors.Is(err, want) {
		t.Errorf("%s: got %v, want %q", what, err, want)
	}
}

// fails wants a refusal by a rule of the database that has no name of its own.
func fails(t testing.TB, s store.Store, what string, fn func(store.Tx) error) {
	t.Helper()
	if err := s.Update(t.Context(), fn); err == nil {
		t.Errorf("%s: it was taken", what)
	}
}

// same compares what was written with what was read. Times must be equal and in UTC.
func same(t testing.TB, what string, want, got any) {
	t.Helper()
	utc := cmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) && a.Location() == b.Location() })
	if diff := cmp.Diff(want, got, utc, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func site(name string) provisioning.Site {
	return provisioning.Site{
		ID: provisioning.SiteID("site_" + name), Name: name, Kind: wire.Clinic, Title: "Praxis " + name, Endpoint: name + ".example:51820",
		Created: now(),
	}
}

func node(s provisioning.Site, n byte) provisioning.Node {
	return provisioning.Node{
		ID: provisioning.NodeID("node_" + s.Name + string('a'+rune(n))), Site: s.ID, Kind: wire.Gateway,
		PublicKey: wgkey.PublicKey{0: n, 31: 7}, Address: netip.AddrFrom4([4]byte{10, 64, 0, n}),
		Facts:    wire.Facts{Hostname: "box", Serial: "S1", LANs: []netip.Prefix{netip.MustParsePrefix("192.168.178.0/24")}},
		Enrolled: now(),
	}
}

func service(s provisioning.Site, name string, port uint16) provisioning.Service {
	return provisioning.Service{
		ID: provisioning.ServiceID("svc_" + name), Site: s.ID, Name: name, Protocol: wire.DICOM, AETitle: "PACS MAIN", Receiver: "HIS^WARD",
		HL7:   wire.HL7Options{Types: "ORM,ORU^R01", Behind: wire.Stop, Retries: 7, Acks: true, CommitTarget: true, AckTimeout: 90},
		DICOM: wire.DICOMOptions{Hold: true, ProbeAE: "BOX", Sources: "10.0.0.0/8", Rate: 9},
		Queue: wire.QueueOptions{MaxBytes: 1 << 40, MaxItems: 5000},
		Mode:  wire.Queued, Target: "192.168.1.5:104", Port: port, Created: now(),
	}
}

func withSites(t testing.TB, s store.Store, names ...string) []provisioning.Site {
	t.Helper()
	var out []provisioning.Site
	update(t, s, func(tx store.Tx) error {
		for _, n := range names {
			v := site(n)
			if err := tx.Sites().Create(v); err != nil {
				return err
			}
			out = append(out, v)
		}
		return nil
	})
	return out
}
