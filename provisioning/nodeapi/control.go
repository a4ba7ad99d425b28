package nodeapi

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/coordinator"
	"github.com/towpath/towpath/provisioning/wire"
)

// reportTimeout bounds reading, storing and answering a report.
const reportTimeout = 30 * time.Second

// Control serves wire.PathWatch, wire.PathReport, wire.PathKey, wire.PathSpoolKeys, wire.PathPaths, wire.PathSizes and wire.PathPairMail. It must be
// reachable inside WireGuard only: the caller is whoever has the remote address.
func Control(c *coordinator.Coordinator) http.Handler {
	h := &control{c: c}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+wire.PathWatch, h.watch)
	mux.HandleFunc("POST "+wire.PathWatch, h.watch)
	mux.HandleFunc("POST "+wire.PathReport, h.report)
	mux.HandleFunc("POST "+wire.PathKey, h.key)
	mux.HandleFunc("POST "+wire.PathPaths, h.paths)
	mux.HandleFunc("POST "+wire.PathSizes, h.sizes)
	mux.HandleFunc("GET "+wire.PathSpoolKeys, h.spoolKeys)
	mux.HandleFunc("POST "+wire.PathSpoolKeys, h.depositSpoolKey)
	mux.HandleFunc("POST "+wire.PathPairMail, h.pairMail)
	return mux
}

type control struct{ c *coordinator.Coordinator }

// caller finds the Node, or answers.
func (h *control) caller(w http.ResponseWriter, r *http.Request) (provisioning.NodeID, bool) {
	remote, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		refuse(w, provisioning.Errorf(provisioning.Denied, "the remote address is not readable"))
		return "", false
	}
	id, err := h.c.NodeAt(r.Context(), remote.Addr().Unmap())
	if err != nil {
		refuse(w, err)
		return "", false
	}
	return id, true
}

func (h *control) report(w http.ResponseWriter, r *http.Request) {
	id, ok := h.caller(w, r)
	if !ok {
		return
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(reportTimeout)) // fails only without a connection, in a test
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, wire.MaxReport))
	if err != nil {
		refuse(w, provisioning.Errorf(provisioning.Invalid, "the report could not be read").
			WithHint("a report has at most %d bytes", wire.MaxReport))
		return
	}
	var report wire.Report
	if err := json.Unmarshal(body, &report); err != nil {
		refuse(w, provisioning.Errorf(provisioning.Invalid, "the report is not what was agreed on").WithHint("update the box"))
		return
	}
	if err := h.c.Report(r.Context(), id, report); err != nil {
		refuse(w, err)
		return
	}
	h.c.Beat(id, wire.Beat{Applied: report.Applied, ApplyError: report.ApplyError})
	w.WriteHeader(http.StatusNoContent)
}

// maxKeyBody bounds a wire.NextKey, in bytes.
const maxKeyBody = 1 << 10

func (h *control) key(w http.ResponseWriter, r *http.Request) {
	id, ok := h.caller(w, r)
	if !ok {
		return
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(reportTimeout)) // as for a report
	var k wire.NextKey
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxKeyBody))
	if err == nil {
		err = json.Unmarshal(body, &k)
	}
	if err != nil {
		refuse(w, provisioning.Errorf(provisioning.Invalid, "the key is not what was agreed on").WithHint("update the box"))
		return
	}
	if err := h.c.NextKey(r.Context(), id, k); err != nil {
		refuse(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// refuse answers with a wire.Refusal. What is not meant for a person stays here.
func refuse(w http.ResponseWriter, err error) {
	refusal := wire.Refusal{Code: string(provisioning.Unavailable), Message: "the coordinator has a problem of its own", Hint: "try again later"}
	status := http.StatusServiceUnavailable
	if e, ok := errors.AsType[*provisioning.Error](err); ok {
		refusal = wire.Refusal{Code: string(e.Code), Message: e.Message, Hint: e.Hint}
		status = map[provisioning.Code]int{
			provisioning.Invalid:  http.StatusBadRequest,
			provisioning.Denied:   http.StatusForbidden,
			provisioning.NotFound: http.StatusNotFound,
			provisioning.Conflict: http.StatusConflict,
			provisioning.Expired:  http.StatusGone,
		}[e.Code]
		if status == 0 {
			status = http.StatusServiceUnavailable
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(refusal)
}
