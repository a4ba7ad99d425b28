package phantom

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math/big"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/suyashkumar/dicom"
	"github.com/suyashkumar/dicom/pkg/tag"
)

// Options say what study to make. The zero value makes 32 slices of 512 by 512.
type Options struct {
	// Slices is the number of images, 1 to 4096. 0 means 32.
	Slices int
	// Size is the width and height in pixels, 16 to 4096 and even. 0 means 512.
	Size int
	// Seed makes studies differ: in their UIDs and in their noise.
	Seed uint64
	// At is the date and time of the study. Zero means the first of January 2000, noon.
	At time.Time
}

// Slice is one image of the study.
type Slice struct {
	// Name is a file name, such as "0001.dcm".
	Name string
	// StudyInstance, SeriesInstance and SOPInstance are UIDs.
	StudyInstance, SeriesInstance, SOPInstance string
	// Bytes are the whole file.
	Bytes []byte
}

const (
	ctImageStorage   = "1.2.840.10008.5.1.4.1.1.2"
	explicitVRLittle = "1.2.840.10008.1.2.1"
	fieldOfView      = 240.0 // mm
	headHeight       = 200.0 // mm
)

// Study returns the images of a study one after the other, from the feet to the head, each made when it is asked for.
func Study(o Options) iter.Seq2[Slice, error] {
	return func(yield func(Slice, error) bool) {
		o, err := o.withDefaults()
		if err != nil {
			yield(Slice{}, err)
			return
		}
		for i := range o.Slices {
			s, err := o.slice(i)
			if !yield(s, err) || err != nil {
				return
			}
		}
	}
}

func (o Options) withDefaults() (Options, error) {
	if o.Slices == 0 {
		o.Slices = 32
	}
	if o.Size == 0 {
		o.Size = 512
	}
	if o.At.IsZero() {
		o.At = time.Date(2000, time.January, 1, 12, 0, 0, 0, time.UTC)
	}
	if o.Slices < 1 || o.Slices > 4096 {
		return o, fmt.Errorf("%d slices; 1 to 4096 are possible", o.Slices)
	}
	if o.Size < 16 || o.Size > 4096 || o.Size%2 != 0 {
		return o, fmt.Errorf("%d pixels; even numbers from 16 to 4096 are possible", o.Size)
	}
	return o, nil
}

// uid derives a UID under 2.25 (PS3.5 §B.2) from the seed and a name: 128 bits of a hash, marked as a UUID of version 8 (RFC 9562).
func (o Options) uid(name string) string {
	sum := sha256.Sum256(binary.BigEndian.AppendUint64([]byte(name+"\x00"), o.Seed))
	sum[6] = sum[6]&0x0F | 0x80
	sum[8] = sum[8]&0x3F | 0x80
	return "2.25." + new(big.Int).SetBytes(sum[:16]).String()
}

func (o Options) slice(i int) (Slice, error) {
	spacing := headHeight / float64(o.Slices)
	z := (float64(i)+0.5)*spacing - headHeight/2
	noise := rand.New(rand.NewPCG(o.Seed, uint64(i)))
	s := Slice{
		Name: fmt.Sprintf("%04d.dcm", i+1), StudyInstance: o.uid("study"), SeriesInstance: o.uid("series"),
		SOPInstance: o.uid("instance " + strconv.Itoa(i)),
	}
	b := builder{}
	o.describe(&b, s, i)
	o.geometry(&b, z, spacing)
	b.pixels(pixels(o.Size, 2*z/headHeight, noise))
	file, err := b.file()
	if err != nil {
		return Slice{}, fmt.Errorf("make slice %d: %w", i+1, err)
	}
	s.Bytes = file
	return s, nil
}

// describe adds who, when and how.
func (o Options) describe(b *builder, s Slice, i int) {
	date, clock := o.At.Format("20060102"), o.At.Format("150405")
	b.text(tag.MediaStorageSOPClassUID, ctImageStorage)
	b.text(tag.MediaStorageSOPInstanceUID, s.SOPInstance)
	b.text(tag.TransferSyntaxUID, explicitVRLittle)

	b.text(tag.SpecificCharacterSet, "ISO_IR 100")
	b.text(tag.ImageType, "ORIGINAL", "PRIMARY", "AXIAL")
	b.text(tag.SOPClassUID, ctImageStorage)
	b.text(tag.SOPInstanceUID, s.SOPInstance)
	for _, t := range []tag.Tag{tag.StudyDate, tag.SeriesDate, tag.AcquisitionDate, tag.ContentDate} {
		b.text(t, date)
	}
	for _, t := range []tag.Tag{tag.StudyTime, tag.SeriesTime, tag.AcquisitionTime, tag.ContentTime} {
		b.text(t, clock)
	}
	b.text(tag.AccessionNumber, "PHANTOM")
	b.text(tag.Modality, "CT")
	b.text(tag.Manufacturer, "TOWPATH")
	b.text(tag.ReferringPhysicianName, "")
	b.text(tag.StudyDescription, "Synthetic phantom, not a patient")
	b.text(tag.SeriesDescription, "Head phantom")
	b.text(tag.ManufacturerModelName, "PHANTOM")
	b.text(tag.PatientName, "PHANTOM^TOWPATH")
	b.text(tag.PatientID, "PHANTOM-"+strconv.FormatUint(o.Seed, 10))
	b.text(tag.PatientBirthDate, "20000101")
	b.text(tag.PatientSex, "O")
	b.text(tag.BodyPartExamined, "HEAD")
	b.text(tag.KVP, "120")
	b.text(tag.SoftwareVersions, "1")
	b.text(tag.ProtocolName, "PHANTOM")
	b.text(tag.PatientPosition, "HFS")
	b.text(tag.StudyInstanceUID, s.StudyInstance)
	b.text(tag.SeriesInstanceUID, s.SeriesInstance)
	b.text(tag.StudyID, "1")
	b.text(tag.SeriesNumber, "1")
	b.text(tag.AcquisitionNumber, "1")
	b.text(tag.InstanceNumber, strconv.Itoa(i+1))
}

// geometry adds where the slice is and how its pixels are to be understood.
func (o Options) geometry(b *builder, z, spacing float64) {
	pixel := fieldOfView / float64(o.Size)
	corner := decimal(pixel/2 - fieldOfView/2)
	b.text(tag.SliceThickness, decimal(spacing))
	b.text(tag.SpacingBetweenSlices, decimal(spacing))
	b.text(tag.ImagePositionPatient, corner, corner, decimal(z))
	b.text(tag.ImageOrientationPatient, "1", "0", "0", "0", "1", "0")
	b.text(tag.FrameOfReferenceUID, o.uid("frame of reference"))
	b.text(tag.PositionReferenceIndicator, "")
	b.text(tag.SliceLocation, decimal(z))
	b.number(tag.SamplesPerPixel, 1)
	b.text(tag.PhotometricInterpretation, "MONOCHROME2")
	b.number(tag.Rows, o.Size)
	b.number(tag.Columns, o.Size)
	b.text(tag.PixelSpacing, decimal(pixel), decimal(pixel))
	b.number(tag.BitsAllocated, 16)
	b.number(tag.BitsStored, 16)
	b.number(tag.HighBit, 15)
	b.number(tag.PixelRepresentation, 1)
	b.text(tag.WindowCenter, "40")
	b.text(tag.WindowWidth, "100")
	b.text(tag.RescaleIntercept, strconv.Itoa(rescaleOffset))
	b.text(tag.RescaleSlope, "1")
	b.text(tag.RescaleType, "HU")
}

// decimal writes v as a DS, which has at most 16 characters.
func decimal(v float64) string { return strconv.FormatFloat(v, 'f', 6, 64) }

// builder collects elements and keeps the first error.
type builder struct {
	ds  dicom.Dataset
	err error
}

func (b *builder) text(t tag.Tag, values ...string) { b.add(t, values) }

func (b *builder) number(t tag.Tag, v int) { b.add(t, []int{v}) }

func (b *builder) add(t tag.Tag, v any) {
	e, err := dicom.NewElement(t, v)
	if err != nil {
		b.err = errors.Join(b.err, err)
		return
	}
	b.ds.Elements = append(b.ds.Elements, e)
}

func (b *builder) pixels(p []byte) {
	e, err := dicom.NewElement(tag.PixelData, dicom.PixelDataInfo{IntentionallyUnprocessed: true, UnprocessedValueData: p})
	if err != nil {
		b.err = errors.Join(b.err, err)
		return
	}
	e.RawValueRepresentation = "OW"
	b.ds.Elements = append(b.ds.Elements, e)
}

func (b *builder) file() ([]byte, error) {
	if b.err != nil {
		return nil, b.err
	}
	slices.SortFunc(b.ds.Elements, func(x, y *dicom.Element) int { return x.Tag.Compare(y.Tag) })
	var out bytes.Buffer
	if err := dicom.Write(&out, b.ds); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
