package netstack_test

import (
	"io"
	"net"
	"net/netip"
	"os"
	"runtime/pprof"
	"sync/atomic"
	"testing"
	"time"

	"github.com/towpath/towpath/tunnel/netstack"
)

func TestTmpStall(t *testing.T) {
	for round := range 1500 {
		var devs [2]*netstack.Device
		confs := [2]interface{}{}
		_ = confs
		devs = udpPair(t)
		at := netip.MustParseAddrPort("100.64.0.2:104")
		ln, err := devs[1].Listen(t.Context(), "tcp", at.String())
		if err != nil {
			t.Fatal(err)
		}
		var total atomic.Int64
		var cs, ss []net.Conn
		done := make(chan bool, 8)
		for range 4 {
			c, err := devs[0].DialContext(t.Context(), "tcp", at.String())
			if err != nil {
				t.Fatal(err)
			}
			s, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			cs, ss = append(cs, c), append(ss, s)
			go func() {
				b := make([]byte, 256<<10)
				for {
					n, err := s.Read(b)
					total.Add(int64(n))
					if err != nil {
						if err != io.EOF {
							t.Error(err)
						}
						break
					}
				}
				done <- true
			}()
			go func() {
				b := make([]byte, 256<<10)
				for range 16 {
					if _, err := c.Write(b); err != nil {
						t.Error(err)
						break
					}
				}
				c.(interface{ CloseWrite() error }).CloseWrite()
			}()
		}
		t0 := time.Now()
		last, lastAt, fin := int64(0), time.Now(), 0
		var worst time.Duration
		for fin < 4 {
			select {
			case <-done:
				fin++
			case <-time.After(100 * time.Millisecond):
			}
			if n := total.Load(); n != last {
				last, lastAt = n, time.Now()
			}
			worst = max(worst, time.Since(lastAt))
			if time.Since(lastAt) > 5*time.Second {
				for k := range 2 {
					for i := range cs {
						t.Log("C ", netstack.Dump(cs[i]))
						t.Log("S ", netstack.Dump(ss[i]))
					}
					for _, d := range devs {
						t.Log(netstack.DumpStack(d))
						st, _ := d.Status(t.Context())
						t.Logf("%+v", st.Peers)
					}
					if k == 0 {
						time.Sleep(3 * time.Second)
					}
				}
				pprof.Lookup("goroutine").WriteTo(os.Stderr, 1)
				t.Fatalf("stall in round %d at %d bytes", round, total.Load())
			}
		}
		if round%50 == 0 || worst > 300*time.Millisecond {
			t.Logf("round %d %v, %d MB/s worst gap %v", round, time.Since(t0).Round(time.Millisecond), int(float64(total.Load())/1e6/time.Since(t0).Seconds()), worst.Round(time.Millisecond))
		}
		for _, c := range append(cs, ss...) {
			c.Close()
		}
		ln.Close()
		devs[0].Close()
		devs[1].Close()
	}
}

func udpPair(t *testing.T) (d [2]*netstack.Device) {
	var s [2]stack
	var confs [2]tunnelConfig
	for i := range s {
		s[i], confs[i] = ours(t)
		confs[i].Addresses = []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64, 0, byte(i + 1)}), 32)}
		if err := s[i].configure(confs[i]); err != nil {
			t.Fatal(err)
		}
		d[i] = s[i].(ourStack).Device
	}
	for i := range s {
		key, _ := confs[1-i].PrivateKey.Public()
		confs[i].Peers = []tunnelPeer{{PublicKey: key, AllowedIPs: confs[1-i].Addresses, Endpoint: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), s[1-i].port())}}
		if err := s[i].configure(confs[i]); err != nil {
			t.Fatal(err)
		}
	}
	return d
}
