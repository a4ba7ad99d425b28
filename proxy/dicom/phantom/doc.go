// Package phantom makes synthetic CT studies: images of a head that never was, for demonstrations and tests of a route without any
// patient. The files are complete DICOM CT images, clearly marked as a phantom, and the same for the same Options.
//
// It is the only place that uses a general DICOM library: making files is its trade, receiving and forwarding them is not, since
// there every byte has to stay as it came.
//
// The package does no I/O and keeps no state.
package phantom
