// Package codec makes DICOM objects small for slow lines, without loss: pixels and waveforms are predicted from their neighbors and
// entropy-coded, everything else goes through zstd, and what does not become smaller is stored as it is. The output is the very bytes
// of the input, whatever those bytes are; that they look like DICOM is only a hint.
//
// An object is cut into blocks of at most [MaxBlock] bytes that are coded alone. So memory is bounded, several processors can work at
// one object, and a cut transfer goes on at the next block. docs/codec.md describes the format.
//
// The scanner that finds the pixels is bounded in depth, count and bytes, and no parser: anything odd makes the object opaque bytes.
// The package does no I/O beyond the io.ReaderAt, io.Reader and io.Writer it is handed, knows no time and logs nothing.
//
// A Codec is safe for concurrent use. It holds at most as many workers as it was made for, each of at most [WorkerMemory] bytes.
package codec
