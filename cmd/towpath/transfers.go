package main

import (
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/gateway/localapi"
)

// printTransfers shows the ways to other gateways.
func printTransfers(w io.Writer, s localapi.Status) error {
	if len(s.Transfers) == 0 {
		return nil
	}
	fmt.Fprintln(w, "\nTransfers")
	var rows [][]string
	for _, t := range s.Transfers {
		state := "connected"
		if !t.Connected {
			state = "not connected"
			if t.LastError != "" {
				state += ": " + t.LastError
			}
		}
		saved := ""
		if t.PayloadBytes > 0 && t.LineBytes > 0 {
			saved = fmt.Sprintf("%.1f : 1", float64(t.PayloadBytes)/float64(t.LineBytes))
		}
		rows = append(rows, []string{
			t.Site, strconv.Itoa(t.Offered), strconv.FormatUint(t.Taken, 10), strconv.FormatUint(t.Accepted, 10), ui.Bytes(t.PayloadBytes), saved,
			ui.Bytes(int64(t.Rate)) + "/s", t.RTT.Round(100 * time.Microsecond).String(), state,
		})
	}
	return ui.Table(w, []string{"TO", "UNDER WAY", "TAKEN", "DELIVERED", "SIZE", "COMPRESSED", "LINE", "ROUND TRIP", "STATE"}, rows)
}
