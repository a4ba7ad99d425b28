package main

import (
	"fmt"
	"io"
	"time"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/gateway/standby"
)

// printStandby says which gateways of centers are used, and why.
func printStandby(w io.Writer, sites []standby.State, now time.Time) error {
	if len(sites) == 0 {
		return nil
	}
	fmt.Fprintln(w, "\nGateways of centers")
	var rows [][]string
	for _, s := range sites {
		for _, x := range s.Gateways {
			use := ""
			if x.Node == s.Active {
				use = "in use"
				if !s.Since.IsZero() {
					use = fmt.Sprintf("in use for %s: %s", ui.For(s.Since, now), moveText(s.Why))
				}
			}
			rows = append(rows, []string{s.Site, x.Node, x.Address.String(), use, gatewayHealth(x, now)})
		}
	}
	return ui.Table(w, []string{"CENTER", "GATEWAY", "ADDRESS", "", "HEALTH"}, rows)
}

func moveText(w standby.Why) string {
	if w == standby.Returned {
		return "it is preferred and in order again"
	}
	return "the other one failed"
}

func gatewayHealth(x standby.GatewayState, now time.Time) string {
	switch {
	case x.Probed.IsZero():
		return "not known yet"
	case x.Healthy:
		return "healthy for " + ui.For(x.Since, now)
	}
	return fmt.Sprintf("for %s: %s", ui.For(x.Since, now), x.Problem)
}
