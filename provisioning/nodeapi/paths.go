package nodeapi

import (
	"encoding/json"
	"io"
	"net/http"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/wire"
)

// maxPathsBody bounds a wire.PathsQuestion, in bytes.
const maxPathsBody = 4 << 10

// paths tells the caller where its relayed peers may be.
func (h *control) paths(w http.ResponseWriter, r *http.Request) {
	id, ok := h.caller(w, r)
	if !ok {
		return
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(reportTimeout)) // as for a report
	var q wire.PathsQuestion
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxPathsBody))
	if err == nil {
		err = json.Unmarshal(body, &q)
	}
	if err != nil {
		refuse(w, provisioning.Errorf(provisioning.Invalid, "the question is not what was agreed on").WithHint("update the box"))
		return
	}
	answer, err := h.c.Paths(r.Context(), id, q)
	if err != nil {
		refuse(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
}
