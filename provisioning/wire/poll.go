package wire

import (
	"strings"
	"time"
)

// PollOptions make a gateway ask an archive (PACS) of its Site for new studies and fetch them for a queued DICOM Service, as if the archive
// had sent them. The zero value is no polling.
type PollOptions struct {
	// Target is host:port of the archive on the Site's LAN, CalledAE its AE title, CallingAE the gateway's own towards it.
	Target    string `json:"target,omitempty"`
	CalledAE  string `json:"called_ae,omitempty"`
	CallingAE string `json:"calling_ae,omitempty"`
	// Move fetches by C-MOVE to the Service's AE title at the gateway, which the archive must know, instead of C-GET.
	Move bool `json:"move,omitempty"`
	// Since is the day of the oldest studies to be fetched, as 2006-01-02.
	Since string `json:"since,omitempty"`
	// Every, Overlap and Settle are in seconds, see package poll of the gateway; 0 leaves them to the gateway.
	Every   int `json:"every,omitempty"`
	Overlap int `json:"overlap,omitempty"`
	Settle  int `json:"settle,omitempty"`
	// Hours are when studies may be fetched, as "22:00-06:00" in the gateway's local time; empty is always.
	Hours string `json:"hours,omitempty"`
	// Modalities limits what is fetched, as "CT,MR", sorted; empty for all.
	Modalities string `json:"modalities,omitempty"`
}

// ModalityList returns the modalities one by one; none for all.
func (o PollOptions) ModalityList() []string {
	if o.Modalities == "" {
		return nil
	}
	return strings.Split(o.Modalities, ",")
}

// Day returns Since.
func (o PollOptions) Day() (time.Time, error) {
	return time.ParseInLocation(time.DateOnly, o.Since, time.Local) //nolint:wrapcheck // callers say what for
}
