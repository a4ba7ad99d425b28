package provisioning

import (
	"fmt"
	"slices"
	"strings"

	"github.com/towpath/towpath/provisioning/wire"
)

// Limits of polling, as the gateway has them.
const (
	minPollEvery   = 10          // s
	maxPollTime    = 366 * 86400 // s
	maxModalities  = 40
	maxModalityLen = 16 // CS
)

// CheckPoll says what is wrong with how a gateway shall fetch studies for a Service. The zero value is right: it ends the polling.
func CheckPoll(s Service, o wire.PollOptions) error {
	if o == (wire.PollOptions{}) {
		return nil
	}
	if s.Protocol != wire.DICOM || s.Mode != wire.Queued {
		return Errorf(Invalid, "studies can be fetched for queued DICOM services only, and %s is none", s.Name).
			WithHint("give the site another service, added with --dicom and without --mode pass-through")
	}
	if err := CheckTarget(o.Target); err != nil {
		return err
	}
	if err := CheckAETitle(o.CalledAE); err != nil {
		return err
	}
	if o.CallingAE != "" {
		if err := CheckAETitle(o.CallingAE); err != nil {
			return err
		}
	}
	if _, err := o.Day(); err != nil {
		return Errorf(Invalid, "the day of the oldest study is missing or wrong").WithHint("write it as 2026-11-22")
	}
	switch {
	case o.Every != 0 && o.Every < minPollEvery:
		return Errorf(Invalid, "an archive cannot be asked every %d seconds", o.Every).WithHint("give %d seconds or more; 15 minutes are usual", minPollEvery)
	case min(o.Every, o.Overlap, o.Settle) < 0 || max(o.Every, o.Overlap, o.Settle) > maxPollTime:
		return Errorf(Invalid, "a time of polling is negative or longer than a year").WithHint("leave it out for the gateway's own")
	case o.Hours != "" && !validHours(o.Hours):
		return Errorf(Invalid, "%q are no hours of the day", clipped(o.Hours)).WithHint("write HH:MM-HH:MM with two different times, such as 22:00-06:00")
	}
	return checkModalities(o.ModalityList())
}

// validHours accepts HH:MM-HH:MM.
func validHours(s string) bool {
	var h1, m1, h2, m2 int
	n, err := fmt.Sscanf(s, "%d:%d-%d:%d", &h1, &m1, &h2, &m2)
	return err == nil && n == 4 && s == fmt.Sprintf("%02d:%02d-%02d:%02d", h1, m1, h2, m2) && max(h1, h2) < 24 && max(m1, m2) < 60 && min(h1, m1, h2, m2) >= 0 && (h1 != h2 || m1 != m2)
}

func checkModalities(list []string) error {
	if len(list) > maxModalities {
		return Errorf(Invalid, "%d modalities are more than %d", len(list), maxModalities).WithHint("leave them out to fetch all studies")
	}
	for i, m := range list {
		if m == "" || len(m) > maxModalityLen || strings.Trim(m, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != "" || i > 0 && list[i-1] >= m || slices.Contains(list[:i], m) {
			return Errorf(Invalid, "%q is no modality, or the modalities are not sorted and different", clipped(m)).WithHint("write them as DICOM does: CT, MR, ECG")
		}
	}
	return nil
}
