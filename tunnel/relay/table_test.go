package relay_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/towpath/towpath/tunnel/relay"
	"github.com/towpath/towpath/tunnel/wgkey"
)

func TestASessionPasses(t *testing.T) {
	b := newBench(t, relay.Limits{})
	b.meet(north, center, atNorth, atCenter, 1, 2)
	b.goes(atCenter, atNorth, data(1, 1400))
	b.goes(atNorth, atCenter, data(2, 1400))
	// Another handshake; the old session goes on, because WireGuard keeps it for what is under way.
	b.now = b.now.Add(2 * time.Minute)
	b.locate(north, atNorth)
	b.locate(center, atCenter)
	b.meet(north, center, atNorth, atCenter, 3, 4)
	b.goes(atCenter, atNorth, data(3, 100))
	b.goes(atCenter, atNorth, data(1, 100))
	// What WireGuard would not take any more is not carried.
	b.now = b.now.Add(90 * time.Second)
	b.stays(atCenter, data(1, 100))
	b.goes(atCenter, atNorth, data(3, 100))
	b.now = b.now.Add(2 * time.Minute)
	b.stays(atCenter, data(3, 100))
	if c := b.table.Counters(); c.Packets != 11 || c.Bytes != 2*(148+92+32)+1400+1400+300 || c.Sessions != 0 || len(c.Dropped) != 0 {
		t.Errorf("counted %+v", c)
	}
}

// Either end may begin, and both at once: each handshake is a matter of its own.
func TestBothBegin(t *testing.T) {
	b := newBench(t, relay.Limits{})
	b.goes(atNorth, atCenter, initiation(keyOf(center), 1))
	b.goes(atCenter, atNorth, initiation(keyOf(north), 2))
	b.goes(atCenter, atNorth, response(keyOf(north), 3, 1))
	b.goes(atNorth, atCenter, response(keyOf(center), 4, 2))
	b.goes(atNorth, atCenter, data(3, 32))
	b.goes(atCenter, atNorth, data(4, 32))
	b.goes(atCenter, atNorth, data(1, 32))
	b.goes(atNorth, atCenter, data(2, 32))
}

func TestOnlyPairsMeet(t *testing.T) {
	b := newBench(t, relay.Limits{})
	b.ends(atNorth, initiation(keyOf(south), 1), relay.NoPair)
	b.ends(atNorth, initiation(keyOf(99), 1), relay.NoPair)
	b.ends(addr("198.51.100.9:1"), initiation(keyOf(north), 1), relay.Unknown) // north is not for plain devices
	b.meet(north, center, atNorth, atCenter, 1, 2)
	// The index of a session is of use only from where the session is.
	b.stays(atSouth, data(2, 100))
	b.stays(atPlain, data(2, 100))
	b.stays(atNorth, response(keyOf(north), 2, 2)) // which is nobody's answer to anything
	a := admission()
	a.Pairs = a.Pairs[1:]
	if err := b.table.Admit(a); err != nil {
		t.Fatal(err)
	}
	b.stays(atNorth, data(2, 100))
	b.stays(atCenter, data(1, 100))
	b.ends(atNorth, initiation(keyOf(center), 3), relay.NoPair)
	b.meet(south, center, atSouth, atCenter, 5, 6)
}

func TestTheDeviceComesFirst(t *testing.T) {
	b := newBench(t, relay.Limits{})
	b.stays(atNorth, initiation(keyOf(device), 1))
	b.stays(atPlain, initiation(keyOf(device), 1))
	b.table.NoteOwn(7, atNorth)
	b.stays(atNorth, response(keyOf(device), 1, 7))
	b.stays(atNorth, data(7, 32))
	b.stays(atNorth, cookie(7))
	// Nobody can take an index of the device away from it.
	b.ends(atNorth, initiation(keyOf(center), 7), relay.Collision)
	b.goes(atNorth, atCenter, initiation(keyOf(center), 8))
	b.ends(atCenter, response(keyOf(north), 7, 8), relay.Collision)
	b.goes(atCenter, atNorth, response(keyOf(north), 9, 8))
	b.goes(atNorth, atCenter, data(9, 32))
	b.table.NoteOwn(9, atNorth)
	b.stays(atNorth, data(9, 32))
	for _, p := range [][]byte{nil, {4}, make([]byte, 31), header(147, 1, 1, 1), header(93, 2, 1, 1), header(65, 3, 1, 1), header(200, 5, 1, 1), header(200, 1<<8|4, 1, 1)} {
		b.stays(atNorth, p)
	}
	if empty := relay.NewTable(relay.Limits{}); empty.Packet(start, atNorth, initiation(keyOf(center), 1)).Action != relay.Own {
		t.Error("a table that admits nobody takes something from the device")
	}
}

func TestPlainDevice(t *testing.T) {
	b := newBench(t, relay.Limits{})
	b.goes(atPlain, atCenter, initiation(keyOf(center), 1))
	// Nothing of it goes on before the center has said who it is.
	b.stays(atPlain, data(2, 100))
	b.ends(atCenter, response(keyOf(99), 2, 1), relay.Unvouched)
	b.ends(atCenter, response(keyOf(north), 2, 1), relay.Unvouched)
	b.goes(atCenter, atPlain, response(keyOf(plain), 2, 1))
	// And nothing goes to it before it has shown that it has got the answer.
	b.ends(atCenter, data(1, 100), relay.Unproven)
	b.ends(atCenter, response(keyOf(plain), 2, 1), relay.Unproven) // a second one would be more than came
	b.goes(atPlain, atCenter, data(2, 32))
	b.goes(atCenter, atPlain, data(1, 1400))
	// Now it is known where it is, and it can be called.
	b.goes(atCenter, atPlain, initiation(keyOf(plain), 5))
	b.goes(atPlain, atCenter, response(keyOf(center), 6, 5))
	// It calls from elsewhere.
	moved := addr("203.0.113.1:2048")
	b.stays(moved, data(2, 100))
	b.meet(plain, center, moved, atCenter, 11, 12)
	b.goes(atCenter, moved, initiation(keyOf(plain), 13))
	// It has no session for long: nobody calls it any more, and its address is anybody's.
	b.now = b.now.Add(11 * time.Minute)
	b.locate(center, atCenter)
	b.ends(atCenter, initiation(keyOf(plain), 15), relay.Unreachable)
}

// An address translator may give the port of one plain device to another.
func TestPlainDeviceAtTheAddressOfAnother(t *testing.T) {
	b := newBench(t, relay.Limits{})
	a := admission()
	a.Members = append(a.Members, relay.Member{Key: keyOf(50), Unmanaged: true})
	a.Pairs = append(a.Pairs, [2]int{0, 4})
	if err := b.table.Admit(a); err != nil {
		t.Fatal(err)
	}
	b.meet(plain, center, atPlain, atCenter, 1, 2)
	b.meet(50, center, atPlain, atCenter, 3, 4)
	b.goes(atCenter, atPlain, initiation(keyOf(50), 5))
}

func TestCookiesPass(t *testing.T) {
	b := newBench(t, relay.Limits{})
	b.goes(atPlain, atCenter, initiation(keyOf(center), 1))
	b.goes(atCenter, atPlain, cookie(1))
	b.goes(atCenter, atPlain, cookie(1))
	b.ends(atCenter, cookie(1), relay.Unproven) // three are more than the initiation was
	b.goes(atPlain, atCenter, initiation(keyOf(center), 2))
	b.goes(atCenter, atPlain, response(keyOf(plain), 3, 2))
	b.goes(atPlain, atCenter, cookie(3))
	b.ends(atCenter, data(2, 32), relay.Unproven) // a cookie does not prove an address
}

func TestEqualIndexes(t *testing.T) {
	b := newBench(t, relay.Limits{})
	// Two clinics choose one number for the center: the second has to choose again.
	b.goes(atNorth, atCenter, initiation(keyOf(center), 1))
	b.ends(atSouth, initiation(keyOf(center), 1), relay.Collision)
	b.goes(atNorth, atCenter, initiation(keyOf(center), 1)) // the same one, twice on the way
	b.goes(atSouth, atCenter, initiation(keyOf(center), 2))
	// The center may have one number for both, since they are at different places, and the clinics have the center's.
	b.goes(atCenter, atNorth, response(keyOf(north), 1, 1))
	b.goes(atCenter, atSouth, response(keyOf(south), 1, 2))
	b.goes(atNorth, atCenter, data(1, 32))
	b.goes(atSouth, atCenter, data(1, 32))
	b.goes(atCenter, atSouth, data(2, 32))
	b.goes(atCenter, atNorth, data(1, 32))
}

func TestRoaming(t *testing.T) {
	b := newBench(t, relay.Limits{})
	b.meet(north, center, atNorth, atCenter, 1, 2)
	moved := addr("198.51.100.77:5")
	// A packet of the session moves nothing, and asks for a look.
	if v := b.table.Packet(b.now, moved, data(2, 100)); v.Action != relay.Own || !v.Look {
		t.Errorf("data from a new address: %+v", v)
	}
	b.goes(atCenter, atNorth, data(1, 100))
	b.now = b.now.Add(time.Second)
	b.locate(north, moved)
	b.goes(moved, atCenter, data(2, 100))
	b.goes(atCenter, moved, data(1, 100))
	b.stays(atNorth, data(2, 100))
	// The other side moves too, with an initiation on its way.
	b.goes(moved, atCenter, initiation(keyOf(center), 3))
	elsewhere := addr("192.0.2.99:51820")
	b.locate(center, elsewhere)
	b.goes(elsewhere, moved, response(keyOf(north), 4, 3))
	b.goes(moved, elsewhere, data(4, 100))
	b.goes(moved, elsewhere, data(2, 100))
	// An old look, or one at a device that has no session with it, changes nothing.
	b.table.Locate(b.now, []relay.Place{
		{Key: keyOf(north), At: atNorth, Handshake: b.now.Add(-time.Minute)},
		{Key: keyOf(center), At: atCenter},
		{Key: keyOf(plain), At: atPlain, Handshake: b.now},
	})
	b.goes(moved, elsewhere, data(4, 100))
	b.ends(elsewhere, initiation(keyOf(plain), 9), relay.Unreachable)
}

func TestASessionThatIsOverAdmitsNobody(t *testing.T) {
	b := newBench(t, relay.Limits{})
	b.now = b.now.Add(5 * time.Minute)
	b.locate(north, atNorth)
	b.ends(atNorth, initiation(keyOf(center), 1), relay.Unreachable)
	b.locate(center, atCenter)
	b.goes(atNorth, atCenter, initiation(keyOf(center), 1))
	// South is nobody by now: it may ask the center as a plain device would, and is not vouched for as one.
	b.goes(atSouth, atCenter, initiation(keyOf(center), 2))
	b.ends(atCenter, response(keyOf(south), 3, 2), relay.Unvouched)
	b.locate(south, atSouth)
	b.meet(south, center, atSouth, atCenter, 5, 6)
}

// A member changes its key while its sessions go on.
func TestAChangeOfAKey(t *testing.T) {
	b := newBench(t, relay.Limits{})
	b.meet(north, center, atNorth, atCenter, 1, 2)
	next := keyOf(60)
	for _, m := range []relay.Member{{Key: keyOf(north), Next: next}, {Key: next}} {
		a := admission()
		a.Members[1] = m
		if err := b.table.Admit(a); err != nil {
			t.Fatal(err)
		}
		b.goes(atNorth, atCenter, data(2, 100))
		b.goes(atCenter, atNorth, initiation(next, 30+uint32(m.Next[0])))
	}
	b.ends(atCenter, initiation(keyOf(north), 40), relay.NoPair)
}

func TestRates(t *testing.T) {
	b := newBench(t, relay.Limits{PairBytes: 150_000, TotalBytes: 400_000})
	b.meet(north, center, atNorth, atCenter, 1, 2)
	b.meet(south, center, atSouth, atCenter, 3, 4)
	flood := func(want relay.Reason) (passed int) {
		t.Helper()
		for range 1000 {
			if b.table.Packet(b.now, atNorth, data(2, 1400)).Action == relay.Forward {
				passed += 1400
			}
		}
		if b.table.Counters().Dropped[want] == 0 {
			t.Errorf("nothing was dropped as %s", want)
		}
		return passed
	}
	if n := flood(relay.PairRate); n > 150_000 || n < 145_000 {
		t.Errorf("%d bytes of one pair passed at once", n)
	}
	b.now = b.now.Add(500 * time.Millisecond)
	if n := flood(relay.PairRate); n > 76_400 || n < 70_000 {
		t.Errorf("%d bytes passed after half a second", n)
	}
	b.goes(atSouth, atCenter, data(4, 1400)) // the other pair goes on
	tight := newBench(t, relay.Limits{TotalBytes: 10_000})
	tight.meet(north, center, atNorth, atCenter, 1, 2)
	b = tight
	if n := flood(relay.TotalRate); n > 150_000 {
		t.Errorf("%d bytes in all passed at once", n)
	}
}

func TestInitiationsAreFew(t *testing.T) {
	b := newBench(t, relay.Limits{})
	index := uint32(1000)
	passed := func(member int, from string, n int) (count int) {
		for range n {
			index++
			if b.table.Packet(b.now, addr(from), initiation(keyOf(member), index)).Action == relay.Forward {
				count++
			}
		}
		return count
	}
	if n := passed(center, atNorth.String(), 100); n != 6 {
		t.Errorf("%d of a member's initiations passed at once", n)
	}
	if n := passed(center, "203.0.113.9:1", 100); n > 6 {
		t.Errorf("%d of one unknown caller's passed at once", n)
	}
	b.meet(south, center, atSouth, atCenter, 1, 2)
	// Callers from everywhere: the members behind have their own share.
	spoofed := 0
	for i := range 5000 {
		spoofed += passed(center, fmt.Sprintf("10.0.%d.%d:9", i/250, i%250), 1)
	}
	if spoofed > 100 || spoofed < 50 {
		t.Errorf("%d initiations from spoofed addresses passed at once", spoofed)
	}
	b.goes(atSouth, atCenter, initiation(keyOf(center), 3))
}

func TestTheTableIsBounded(t *testing.T) {
	b := newBench(t, relay.Limits{Sessions: 4})
	full := false
	for i := range uint32(100) {
		b.now = b.now.Add(time.Second)
		b.locate(north, atNorth)
		b.locate(center, atCenter)
		if b.table.Packet(b.now, atNorth, initiation(keyOf(center), 2*i)).Action != relay.Forward {
			full = true
			continue
		}
		b.goes(atCenter, atNorth, response(keyOf(north), 2*i+1, 2*i))
		if n := b.table.Counters().Sessions; n > 4 {
			t.Fatalf("%d sessions", n)
		}
	}
	if !full || b.table.Counters().Dropped[relay.Full] == 0 {
		t.Errorf("it was never full: %+v", b.table.Counters())
	}
	// Of one pair the least used ends first.
	b = newBench(t, relay.Limits{})
	b.meet(north, center, atNorth, atCenter, 1, 2)
	for i := range uint32(20) {
		b.now = b.now.Add(time.Second)
		b.goes(atCenter, atNorth, data(1, 32))
		b.meet(north, center, atNorth, atCenter, 100+2*i, 101+2*i)
	}
	b.goes(atNorth, atCenter, data(2, 32))
	if n := b.table.Counters().Sessions; n != 8 {
		t.Errorf("a pair has %d sessions", n)
	}
}

func TestAdmissionMustMakeSense(t *testing.T) {
	for name, spoil := range map[string]func(*relay.Admission){
		"no key":                  func(a *relay.Admission) { a.Members[0].Key = wgkey.PublicKey{} },
		"a key twice":             func(a *relay.Admission) { a.Members[1].Next = a.Members[0].Key },
		"the device's key":        func(a *relay.Admission) { a.Members[2].Key = keyOf(device) },
		"a pair of one":           func(a *relay.Admission) { a.Pairs[0] = [2]int{1, 1} },
		"a pair of nobody":        func(a *relay.Admission) { a.Pairs[0] = [2]int{1, 4} },
		"a pair before the first": func(a *relay.Admission) { a.Pairs[0] = [2]int{-1, 1} },
		"too many":                func(a *relay.Admission) { a.Pairs = make([][2]int, 1<<18+1) },
	} {
		b := newBench(t, relay.Limits{})
		b.meet(north, center, atNorth, atCenter, 1, 2)
		a := admission()
		spoil(&a)
		if err := b.table.Admit(a); err == nil {
			t.Errorf("%s: it was admitted", name)
		}
		b.goes(atNorth, atCenter, data(2, 32))
	}
}

// A packet of a session costs no memory, whoever's it is.
func TestPacketsCostNoMemory(t *testing.T) {
	b := newBench(t, relay.Limits{PairBytes: 1 << 40, TotalBytes: 1 << 40})
	b.meet(north, center, atNorth, atCenter, 1, 2)
	b.table.NoteOwn(9, atSouth)
	own, relayed, strange, wrong := data(9, 1400), data(2, 1400), data(77, 1400), initiation(keyOf(99), 5)
	if n := testing.AllocsPerRun(100, func() {
		b.table.Packet(b.now, atSouth, own)
		b.table.Packet(b.now, atNorth, relayed)
		b.table.Packet(b.now, atPlain, strange)
		b.table.Packet(b.now, atPlain, wrong)
	}); n != 0 {
		t.Errorf("four packets cost %v allocations", n)
	}
}
