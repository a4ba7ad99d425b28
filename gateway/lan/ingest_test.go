package lan_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/towpath/towpath/gateway/lan"
	"github.com/towpath/towpath/proxy/dicom"
	"github.com/towpath/towpath/proxy/dicom/phantom"
	"github.com/towpath/towpath/proxy/spool"
	"github.com/towpath/towpath/proxy/spool/seal"
)

// BenchmarkIngest has storescu, without Nagle's algorithm at any end, send studies to a gateway whose queue is on disk, plain and encrypted, to Orthanc, which
// syncs as we do, and to storescp, which does not: in turn, on one disk, with a new study in each round, by one association and by four.
func BenchmarkIngest(b *testing.B) {
	b.Setenv("TCP_NODELAY", "1")
	receivers := []struct{ name, address string }{
		{"towpath", openDoor(b, onDisk(b)).clear},
		{"encrypted", openDoor(b, sealed(b)).clear},
		{"orthanc", orthanc(b)},
		{"storescp", storescp(b, "TCP_NODELAY=1")},
	}
	seed := uint64(0)
	for _, kind := range []struct {
		name               string
		slices, size, ways int
	}{{"CT", 200, 512, 1}, {"CT-4", 200, 512, 4}, {"small", 1000, 70, 1}, {"small-4", 1000, 70, 4}} {
		b.Run(kind.name, func(b *testing.B) {
			took := map[string][]time.Duration{}
			bytes := 0
			for b.Loop() {
				seed++
				var files [][]string
				files, bytes = study(b, phantom.Options{Slices: kind.slices, Size: kind.size, Seed: seed}, kind.ways)
				for _, r := range receivers {
					took[r.name] = append(took[r.name], sendAll(b, r.address, files))
				}
			}
			median := func(name string) float64 {
				slices.Sort(took[name])
				return took[name][len(took[name])/2].Seconds()
			}
			ours := median("towpath")
			for _, r := range receivers {
				b.ReportMetric(float64(kind.slices)/median(r.name), r.name+"-objects/s")
			}
			b.ReportMetric(float64(bytes)/1e6/ours, "towpath-MB/s")
			b.ReportMetric(median("orthanc")/ours, "x-orthanc")
			b.ReportMetric(median("storescp")/ours, "x-storescp")
			b.ReportMetric(0, "ns/op")
			b.Log(took)
		})
	}
}

func sealed(b *testing.B) spool.Queue {
	b.Helper()
	q, err := spool.Open(b.TempDir(), spool.Options{MinFreeBytes: -1})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = q.Close() })
	key, err := seal.NewPrivateKey()
	if err != nil {
		b.Fatal(err)
	}
	q.SealTo(key.Public())
	return q
}

// study writes a study into the files of so many associations.
func study(b *testing.B, o phantom.Options, ways int) (files [][]string, bytes int) {
	b.Helper()
	dir := b.TempDir()
	files = make([][]string, ways)
	n := 0
	for s, err := range phantom.Study(o) {
		if err != nil {
			b.Fatal(err)
		}
		path := filepath.Join(dir, s.Name)
		if err := os.WriteFile(path, s.Bytes, 0o600); err != nil {
			b.Fatal(err)
		}
		files[n%ways] = append(files[n%ways], path)
		bytes += len(s.Bytes)
		n++
	}
	return files, bytes
}

// sendAll sends each list by a storescu of its own.
func sendAll(b *testing.B, address string, files [][]string) time.Duration {
	b.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	var running []*exec.Cmd
	for _, list := range files {
		cmd := dcmtk(b.Context(), b, "storescu", append([]string{"-aec", "X", host, port}, list...)...)
		cmd.Env = append(cmd.Env, "TCP_NODELAY=1")
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		running = append(running, cmd)
	}
	for _, cmd := range running {
		if err := cmd.Wait(); err != nil {
			b.Errorf("storescu to %s: %v", address, err)
		}
	}
	return time.Since(began)
}

// orthanc runs as it comes but for what it would refuse, until the benchmark ends.
func orthanc(b *testing.B) (address string) {
	b.Helper()
	path, err := exec.LookPath("Orthanc")
	if err != nil {
		b.Skip("Orthanc is not installed")
	}
	var n lan.Network
	free, err := n.Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	address = free.Addr().String()
	_ = free.Close()
	_, port, _ := net.SplitHostPort(address)
	number, err := strconv.Atoi(port)
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	text, err := json.Marshal(map[string]any{
		"StorageDirectory": filepath.Join(dir, "storage"), "IndexDirectory": filepath.Join(dir, "index"), "HttpServerEnabled": false,
		"DicomAet": "X", "DicomPort": number, "DicomCheckCalledAet": false, "DicomAlwaysAllowStore": true, "DicomAlwaysAllowEcho": true,
	})
	if err != nil {
		b.Fatal(err)
	}
	config := filepath.Join(dir, "orthanc.json")
	if err := os.WriteFile(config, text, 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(b.Context()), path, config)
	cmd.Stdout, cmd.Stderr = io.Discard, io.Discard // the environment is ours, with TCP_NODELAY
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	awaitEcho(b, "Orthanc", address)
	return address
}

// awaitEcho waits until a program answers a C-ECHO.
func awaitEcho(b *testing.B, name, address string) {
	b.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		_, err := dicom.Echo(b.Context(), dicom.EchoConfig{Network: &lan.Network{}, Target: address, CalledAE: "X"})
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			b.Fatal(fmt.Errorf("%s does not answer: %w", name, err))
		}
	}
}
