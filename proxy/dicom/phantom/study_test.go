package phantom_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/suyashkumar/dicom"
	"github.com/suyashkumar/dicom/pkg/tag"

	"github.com/towpath/towpath/proxy/dicom/phantom"
)

func study(t *testing.T, o phantom.Options) []phantom.Slice {
	t.Helper()
	var all []phantom.Slice
	for s, err := range phantom.Study(o) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	return all
}

// TestStudyParsesBack reads every slice with a general parser and looks at what makes it one study of plausible images.
func TestStudyParsesBack(t *testing.T) {
	all := study(t, phantom.Options{Slices: 4, Size: 128, Seed: 7})
	if len(all) != 4 {
		t.Fatalf("%d slices instead of 4", len(all))
	}
	instances := map[string]bool{}
	for i, s := range all {
		ds, err := dicom.Parse(bytes.NewReader(s.Bytes), int64(len(s.Bytes)), nil, dicom.SkipProcessingPixelDataValue())
		if err != nil {
			t.Fatalf("slice %d: %v", i, err)
		}
		text := func(at tag.Tag) string {
			e, err := ds.FindElementByTag(at)
			if err != nil {
				t.Fatalf("slice %d: %v: %v", i, at, err)
			}
			return strings.Join(dicom.MustGetStrings(e.Value), `\`)
		}
		for at, want := range map[tag.Tag]string{
			tag.PatientName: "PHANTOM^TOWPATH", tag.Modality: "CT", tag.SOPInstanceUID: s.SOPInstance,
			tag.MediaStorageSOPInstanceUID: s.SOPInstance, tag.StudyInstanceUID: all[0].StudyInstance,
			tag.SeriesInstanceUID: all[0].SeriesInstance, tag.RescaleIntercept: "-1024", tag.TransferSyntaxUID: "1.2.840.10008.1.2.1",
		} {
			if got := text(at); got != want {
				t.Errorf("slice %d: %v is %q instead of %q", i, at, got, want)
			}
		}
		instances[s.SOPInstance] = true
		pixel, err := ds.FindElementByTag(tag.PixelData)
		if err != nil {
			t.Fatal(err)
		}
		checkPixels(t, i, dicom.MustGetPixelDataInfo(pixel.Value).UnprocessedValueData, 128)
	}
	if len(instances) != 4 {
		t.Errorf("%d different SOP instance UIDs for 4 slices", len(instances))
	}
	uid := regexp.MustCompile(`^2\.25\.[1-9][0-9]{0,38}$`)
	for _, u := range []string{all[0].StudyInstance, all[0].SeriesInstance, all[0].SOPInstance} {
		if !uid.MatchString(u) {
			t.Errorf("UID %q is not of the form 2.25.N", u)
		}
	}
}

// checkPixels looks for air in the corner and tissue in the middle.
func checkPixels(t *testing.T, slice int, b []byte, n int) {
	t.Helper()
	if len(b) != 2*n*n {
		t.Fatalf("slice %d has %d bytes of pixels instead of %d", slice, len(b), 2*n*n)
	}
	at := func(row, col int) int {
		return int(int16(binary.LittleEndian.Uint16(b[2*(row*n+col):]))) - 1024
	}
	if hu := at(1, 1); hu < -1050 || hu > -950 {
		t.Errorf("slice %d: the corner has %d HU and should be air", slice, hu)
	}
	sum := 0
	for row := n/2 - 4; row < n/2+4; row++ {
		for col := n/2 - 4; col < n/2+4; col++ {
			sum += at(row, col)
		}
	}
	if mean := sum / 64; mean < -20 || mean > 150 {
		t.Errorf("slice %d: the middle has %d HU and should be brain", slice, mean)
	}
}

func TestStudyIsDeterministic(t *testing.T) {
	one, same := study(t, phantom.Options{Slices: 2, Size: 64, Seed: 1}), study(t, phantom.Options{Slices: 2, Size: 64, Seed: 1})
	other := study(t, phantom.Options{Slices: 2, Size: 64, Seed: 2})
	for i := range one {
		if !bytes.Equal(one[i].Bytes, same[i].Bytes) {
			t.Errorf("slice %d differs for the same seed", i)
		}
		if one[i].SOPInstance == other[i].SOPInstance || bytes.Equal(one[i].Bytes, other[i].Bytes) {
			t.Errorf("slice %d is the same for another seed", i)
		}
	}
	if one[0].StudyInstance == other[0].StudyInstance {
		t.Error("the study UID does not depend on the seed")
	}
}

func TestStudyDefaultsAndLimits(t *testing.T) {
	for s, err := range phantom.Study(phantom.Options{}) {
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Bytes) < 512*512*2 || len(s.Bytes) > 512*512*2+4096 {
			t.Errorf("a default slice has %d bytes", len(s.Bytes))
		}
		break
	}
	for _, o := range []phantom.Options{{Slices: -1}, {Slices: 5000}, {Size: 15}, {Size: 17}, {Size: 8192}} {
		for s, err := range phantom.Study(o) {
			if err == nil {
				t.Errorf("%+v made a slice of %d bytes", o, len(s.Bytes))
			}
		}
	}
}

// TestDcmdumpReadsIt has an independent reader judge the file.
func TestDcmdumpReadsIt(t *testing.T) {
	tool, err := exec.LookPath("dcmdump")
	if err != nil {
		t.Skip("dcmtk is not installed")
	}
	s := study(t, phantom.Options{Slices: 1, Size: 64, Seed: 3})[0]
	path := filepath.Join(t.TempDir(), s.Name)
	if err := os.WriteFile(path, s.Bytes, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), tool, "--print-short", path).CombinedOutput()
	if err != nil {
		t.Fatalf("dcmdump: %v\n%s", err, out)
	}
	for _, want := range []string{"[PHANTOM^TOWPATH]", "=CTImageStorage", "=LittleEndianExplicit", "[HU]", s.SOPInstance} {
		if !bytes.Contains(out, []byte(want)) {
			t.Errorf("dcmdump does not show %s", want)
		}
	}
	if bytes.Contains(out, []byte("W: ")) || bytes.Contains(out, []byte("E: ")) {
		t.Errorf("dcmdump complains:\n%s", out)
	}
}
