package overlaytest

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/dicom"
	"github.com/towpath/towpath/proxy/dicom/phantom"
	"github.com/towpath/towpath/proxy/proxytest"
	"github.com/towpath/towpath/tunnel/tunneltest"
)

// archive is a DICOM device on a LAN that remembers what it got, in the order in which it came, and how often.
type archive struct {
	mu  sync.Mutex
	got []string
}

func newArchive(t *testing.T, lan *proxytest.Network, at, ae string) *archive {
	t.Helper()
	a := &archive{}
	ar, err := dicom.NewArchive(dicom.ArchiveConfig{Dir: t.TempDir(), AETitle: ae, OnStored: func(o dicom.StoredObject) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.got = append(a.got, o.SOPInstance)
	}})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := lan.Listen(t.Context(), "tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- proxy.NewServer(proxy.ServerConfig{Name: at, Listener: ln, Handler: ar}).Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		_ = ln.Close()
		<-done
		_ = ar.Close()
	})
	return a
}

func (a *archive) objects() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.got)
}

// study makes n small objects and their instance UIDs.
func study(t *testing.T, seed uint64, n int) (objects []dicom.Object, uids []string) {
	t.Helper()
	for s, err := range phantom.Study(phantom.Options{Seed: seed, Slices: n, Size: 16}) {
		if err != nil {
			t.Fatal(err)
		}
		objects, uids = append(objects, dicom.BytesObject(s.Name, s.Bytes)), append(uids, s.SOPInstance)
	}
	return objects, uids
}

// send stores objects and reports how many were taken.
func send(t *testing.T, n proxy.Network, to, ae string, objects []dicom.Object) (int, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), tunneltest.Patience)
	defer cancel()
	r, err := dicom.Store(ctx, dicom.StoreConfig{Network: n, Target: to, CallingAE: "TEST", CalledAE: ae}, objects, nil)
	return r.Sent, err
}

// ct is the service of a device that both clinics have at the same address, with the same AE title.
func ct(name string, port uint16) provisioning.Service {
	return provisioning.Service{Name: name, Protocol: wire.DICOM, AETitle: "CT", Mode: wire.PassThrough, Target: device, Port: port}
}

// Two clinics have the same LAN, each with a device at the same address. The center reaches either, through its own LAN port and straight at
// the mapped address, and never the wrong one; the clinics do not reach each other at all.
func TestTwoClinicsWithOneLAN(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.offer(ct("ct-nord", 10402), "nord", "lab")
	w.offer(ct("ct-sued", 10403), "sued", "lab")
	got := map[string]*archive{"nord": newArchive(t, w.box["nord"].lan, device, "CT"), "sued": newArchive(t, w.box["sued"].lan, device, "CT")}
	w.publish("lab", "nord", "sued")
	lab := w.box["lab"]
	ways := []struct {
		clinic, at string
		network    proxy.Network
	}{
		{"nord", boxLAN + ":10402", lab.lan},
		{"sued", boxLAN + ":10403", lab.lan},
		{"nord", "10.201.22.20:104", lab.device},
		{"sued", "10.201.23.20:104", lab.device},
		{"nord", "10.201.2.1:10402", lab.device},
		{"sued", "10.201.3.1:10403", lab.device},
	}
	want := map[string][]string{}
	for i, way := range ways {
		objects, uids := study(t, uint64(i+1), 3)
		n, err := send(t, way.network, way.at, "CT", objects)
		if err != nil || n != 3 {
			t.Fatalf("%d of 3 objects to %s at %s: %v", n, way.clinic, way.at, err)
		}
		want[way.clinic] = append(want[way.clinic], uids...)
		for _, clinic := range []string{"nord", "sued"} {
			if !slices.Equal(got[clinic].objects(), want[clinic]) {
				t.Fatalf("after sending to %s at %s, %s has %v, want %v", way.clinic, way.at, clinic, got[clinic].objects(), want[clinic])
			}
		}
	}
	w.deny(
		way{"sued", "10.201.22.20:104", "a device of the other clinic, mapped"},
		way{"sued", "10.201.2.1:10402", "a device of the other clinic, at its box"},
		way{"nord", "10.201.23.20:104", "a device of the other clinic, mapped"},
		way{"sued", device, "a LAN address"},
		way{"lab", device, "a LAN address"},
		way{"lab", "10.201.22.21:104", "a mapped machine that is no service"},
		way{"lab", "10.201.22.20:22", "another port of the device"},
		way{"lab", "10.201.24.20:104", "what nobody has"},
	)
}

// A clinic's box in the wrong hands says that the other clinic's devices are behind the center, that the center's address is its own, and
// that it is the other clinic. The others go by their own maps.
func TestHostileClinicReachesNobody(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.offer(ct("ct-nord", 10402), "nord", "lab")
	w.offer(ct("ct-sued", 10403), "sued", "lab")
	nord := newArchive(t, w.box["nord"].lan, device, "CT")
	newArchive(t, w.box["sued"].lan, device, "CT")
	w.publish("lab", "nord", "sued")
	if err := w.reach("lab", "10.201.23.20:104"); err != nil {
		t.Fatalf("before: %v", err) // and there is a handshake now
	}
	conf := w.desired("sued").Tunnel
	conf.Peers[1].AllowedIPs = append(slices.Clone(conf.Peers[1].AllowedIPs), prefix("10.201.22.0/24"), prefix("10.201.2.0/30"))
	for _, own := range []string{"10.201.2.9/32", "10.201.3.1/32"} {
		conf.Addresses = []netip.Prefix{prefix(own)}
		if err := w.box["sued"].device.Configure(t.Context(), conf); err != nil {
			t.Fatal(err)
		}
		w.deny(way{"sued", "10.201.22.20:104", "with the address " + own}, way{"sued", "10.201.2.1:10402", "with the address " + own})
	}
	if got := nord.objects(); len(got) != 0 {
		t.Errorf("the other clinic's device has %v", got)
	}
	if err := w.reach("lab", "10.201.22.20:104"); err != nil {
		t.Errorf("the others are disturbed: %v", err)
	}
}

// A service keeps its own address while the box gets another one, and the grant ends the way to it.
func TestFixedAddressAndItsEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.allocate("10.201.40.0/28", ids["lab"], provisioning.PurposeServices, "")
	w.offer(provisioning.Service{
		Name: "pacs", Protocol: wire.DICOM, AETitle: "PACS", Mode: wire.PassThrough, Target: device, Port: 11112, Address: addr("10.201.40.1"),
	}, "lab", "nord", "sued")
	newArchive(t, w.box["lab"].lan, device, "PACS")
	w.publish("lab", "nord", "sued")
	echo := func(n proxy.Network, at string) error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), tunneltest.Patience)
		defer cancel()
		_, err := dicom.Echo(ctx, dicom.EchoConfig{Network: n, Target: at, CalledAE: "PACS"})
		return err
	}
	nord := w.box["nord"]
	if err := echo(nord.lan, boxLAN+":11112"); err != nil {
		t.Fatal(err)
	}
	w.allocate("10.201.50.0/28", ids["lab"], provisioning.PurposeOverlay, "")
	w.plan.Nodes[0].Address = addr("10.201.50.1") // another box, say
	w.publish("lab", "nord", "sued")
	for _, at := range []string{"10.201.40.1:11112", "10.201.50.1:11112"} {
		if err := echo(nord.device, at); err != nil {
			t.Errorf("at %s: %v", at, err)
		}
	}
	if err := w.reach("nord", "10.201.1.1:11112"); err == nil {
		t.Error("the box answers at the address that it had")
	}
	w.plan.Grants = w.plan.Grants[1:] // nord's
	w.publish("nord", "lab", "sued")
	w.deny(way{"nord", "10.201.40.1:11112", "without a grant"}, way{"nord", "10.201.50.1:11112", "without a grant"})
	if err := echo(w.box["sued"].device, "10.201.40.1:11112"); err != nil {
		t.Errorf("the other clinic: %v", err)
	}
}
