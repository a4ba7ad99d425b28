package dicom

import (
	"errors"

	"github.com/towpath/towpath/proxy/dicom/pdu"
	"github.com/towpath/towpath/proxy/dicom/ul"
)

// Refuses reports whether an error of Echo means that the device is there and will not have us until somebody changes its settings or ours: it has
// rejected the association for good (PS3.8 §9.3.4, result 1), and not because it is busy.
func Refuses(err error) bool {
	e, ok := errors.AsType[*ul.RejectedError](err)
	return ok && e.RJ.Result == pdu.RejectedPermanent && e.RJ.Source != pdu.SourcePresentation
}
