package nodeapi

import (
	"encoding/json"
	"io"
	"net/http"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/wire"
)

// spoolKeys gives the caller the keys that it has left.
func (h *control) spoolKeys(w http.ResponseWriter, r *http.Request) {
	id, ok := h.caller(w, r)
	if !ok {
		return
	}
	keys, err := h.c.SpoolKeys(r.Context(), id)
	if err != nil {
		refuse(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(keys)
}

// depositSpoolKey keeps a key for the caller.
func (h *control) depositSpoolKey(w http.ResponseWriter, r *http.Request) {
	id, ok := h.caller(w, r)
	if !ok {
		return
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(reportTimeout)) // as for a report
	var d wire.SpoolKeyDeposit
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, wire.MaxSpoolKeysBody))
	if err == nil {
		err = json.Unmarshal(body, &d)
	}
	if err != nil {
		refuse(w, provisioning.Errorf(provisioning.Invalid, "the key is not what was agreed on").WithHint("update the box"))
		return
	}
	if err := h.c.DepositSpoolKey(r.Context(), id, d); err != nil {
		refuse(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
