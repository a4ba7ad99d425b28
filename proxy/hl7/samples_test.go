package hl7_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/hl7"
	"github.com/towpath/towpath/proxy/spool"
)

// samplesDir returns the folder of sample files, from TOWPATH_SAMPLES or beside the repository, or "" when there is none.
func samplesDir() string {
	if dir := os.Getenv("TOWPATH_SAMPLES"); dir != "" {
		return dir
	}
	dir, err := os.Getwd()
	for err == nil && dir != filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			samples := filepath.Join(dir, "..", "shared", "samples")
			if _, err := os.Stat(samples); err == nil {
				return samples
			}
			return ""
		}
		dir = filepath.Dir(dir)
	}
	return ""
}

// messages returns generated messages and all sample files, by name.
func messages(t *testing.T) map[string][]byte {
	t.Helper()
	now := time.Now()
	all := map[string][]byte{
		"generated order":  hl7.SampleOrder(now, "O-1", parties("ANY")),
		"generated result": hl7.SampleResult(now, "R-1", parties("ANY")),
		"generated large": append(hl7.SampleResult(now, "R-2", parties("ANY")),
			append([]byte("OBX|3|ED|PDF||"), bytes.Repeat([]byte("JVBERi0xLjc"), 200_000)...)...),
		"generated lone end block": []byte("MSH|^~\\&|A|B|C|D|||ORU^R01|F-1|P|2.5\rOBX|1|ED|||\x1c\x1cbinary\x1c\n\x1c"),
		"generated empty ID":       []byte("MSH|^~\\&|A|B|C|D|||ORU^R01||P|2.5\r"),
	}
	dir := samplesDir()
	for _, pattern := range []string{"hl7/*.hl7", "hl7/derived/*.hl7"} {
		files, err := filepath.Glob(filepath.Join(dir, pattern))
		if dir == "" || err != nil {
			continue
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			all[filepath.Base(f)] = b
		}
	}
	t.Logf("%d messages", len(all))
	return all
}

// kind says what the router must do with a message.
func kind(msg []byte) string {
	h, err := hl7.ParseHeader(msg)
	switch {
	case err != nil:
		return "malformed"
	case strings.HasPrefix(h.Type(), "ACK"):
		return "acknowledgment"
	case h.ControlID() == "":
		return "unanswerable"
	default:
		return "message"
	}
}

// TestSamplesPassUntouched sends each message through both modes and compares what the far end gets, byte by byte.
func TestSamplesPassUntouched(t *testing.T) {
	all := messages(t)
	for _, mode := range []hl7.Mode{hl7.Queued, hl7.PassThrough} {
		t.Run(string(mode), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBoxWith(t, &far{}, spool.Options{}, func(n proxy.Network) []hl7.Route {
					return []hl7.Route{{Service: "all", Mode: mode, QueueName: "results", Network: n, Target: farAddress}}
				})
				b.deliver(t)
				counts := map[string]int{}
				for name, msg := range all {
					k := kind(msg)
					counts[k]++
					before := len(b.far.received())
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					a, err := hl7.Send(ctx, hl7.SendConfig{Network: b.net, Target: nearAddress}, msg)
					cancel()
					time.Sleep(5 * time.Second)
					synctest.Wait()
					got := b.far.received()[before:]
					passes := k == "message" || k == "unanswerable" && mode == hl7.PassThrough
					switch {
					case passes && (err != nil || len(got) != 1 || !bytes.Equal(got[0], msg)):
						t.Errorf("%s: %v; %d messages came out", name, err, len(got))
					case passes && a.Code != "" && !a.Code.OK():
						t.Errorf("%s: answered %s", name, a.Code)
					case !passes && len(got) != 0:
						t.Errorf("%s: %s came out", name, k)
					case k == "unanswerable" && mode == hl7.Queued && (a.Code != hl7.AR || err != nil):
						t.Errorf("%s: answered %q, %v; want AR", name, a.Code, err)
					}
				}
				t.Logf("%v", counts)
				if st := b.queue.Stats(); mode == hl7.Queued && (st[0].Queued != 0 || int(st[0].Delivered) != counts["message"]) {
					t.Errorf("stats %+v", st)
				}
			})
		})
	}
}

// TestSampleStreams sends raw bytes of odd senders.
func TestSampleStreams(t *testing.T) {
	msg := string(hl7.SampleResult(time.Now(), "R-1", parties("QUEUED")))
	streams := map[string][]byte{
		"framed_junk_before.mllp":        []byte("junk\r\n\x0b" + msg + "\x1c\r"),
		"framed_no_trailing_cr.mllp":     []byte("\x0b" + msg + "\x1c"),
		"framed_two_in_one_segment.mllp": []byte("\x0b" + msg + "\x1c\r\x0b" + strings.Replace(msg, "R-1", "R-2", 1) + "\x1c\r"),
		"two without CR":                 []byte("\x0b" + msg + "\x1c\x0b" + strings.Replace(msg, "R-1", "R-2", 1) + "\x1c"),
		"empty frame first":              []byte("\x0b\x1c\r\x0b" + msg + "\x1c\r"),
	}
	for name := range streams {
		if b, err := os.ReadFile(filepath.Join(samplesDir(), "hl7", "derived", name)); err == nil {
			streams[name+" (file)"] = b
		}
	}
	for name, stream := range streams {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBoxWith(t, &far{}, spool.Options{}, func(n proxy.Network) []hl7.Route {
					return []hl7.Route{{Service: "all", Mode: hl7.Queued, QueueName: "results"}}
				})
				n := b.dial(t)
				began := time.Now()
				if _, err := n.Write(stream); err != nil {
					t.Fatal(err)
				}
				for range max(1, bytes.Count(stream, []byte("MSH|"))) {
					if a := n.hearAck(); a.Code != hl7.AA {
						t.Fatalf("%+v", a)
					}
				}
				if took := time.Since(began); took > hl7.DefaultLooseEnd {
					t.Errorf("answered after %v", took)
				}
			})
		})
	}
}
