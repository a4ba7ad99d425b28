package nodeapi

import (
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/wire"
)

// sizes sends back as many bytes as came: the caller wants to know if large packets get through, both ways.
func (h *control) sizes(w http.ResponseWriter, r *http.Request) {
	if _, ok := h.caller(w, r); !ok {
		return
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(reportTimeout)) // as for a report
	n, err := io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, wire.MaxSizes))
	if err != nil {
		refuse(w, provisioning.Errorf(provisioning.Invalid, "that is more than %d bytes, or was broken off", wire.MaxSizes).WithHint("update the box"))
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	_, _ = w.Write(make([]byte, n))
}
