package nodeapi

import (
	"encoding/json"
	"io"
	"net/http"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/wire"
)

// pairMail takes what the caller leaves for others, and gives it what they have left.
func (h *control) pairMail(w http.ResponseWriter, r *http.Request) {
	id, ok := h.caller(w, r)
	if !ok {
		return
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(reportTimeout)) // as for a report
	var m wire.PairMail
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, wire.MaxPairMailBody))
	if err == nil {
		err = json.Unmarshal(body, &m)
	}
	if err != nil {
		refuse(w, provisioning.Errorf(provisioning.Invalid, "the messages are not what was agreed on").WithHint("update the box"))
		return
	}
	box, err := h.c.PairMail(r.Context(), id, m)
	if err != nil {
		refuse(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(box)
}
