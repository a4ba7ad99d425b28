package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
)

const (
	day  = 24 * time.Hour
	week = 7 * day
)

// parseDuration reads what time.ParseDuration does, and days and weeks: "30d", "2w", "1w3d12h". A day has 24 hours. Below zero is
// refused.
func parseDuration(s string) (time.Duration, error) {
	fail := fmt.Errorf("%q is no duration", s)
	rest, sum := strings.TrimSpace(s), time.Duration(0)
	for {
		n := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
		if n < 1 || rest[n] != 'd' && rest[n] != 'w' {
			break
		}
		unit := day
		if rest[n] == 'w' {
			unit = week
		}
		count, err := strconv.ParseInt(rest[:n], 10, 64)
		if err != nil || count > int64((math.MaxInt64-sum)/unit) {
			return 0, fail
		}
		sum += time.Duration(count) * unit
		if rest = rest[n+1:]; rest == "" {
			return sum, nil
		}
	}
	d, err := time.ParseDuration(rest)
	if err != nil || d < 0 || d > math.MaxInt64-sum {
		return 0, fail
	}
	return sum + d, nil
}

// durationOf is the value of a flag, or an error for the person who typed it.
func durationOf(c *cli.Context, flag string) (time.Duration, error) {
	d, err := parseDuration(c.String(flag))
	if err != nil {
		return 0, ui.Usagef("such as 7d, 2w or 36h", "--%s %w", flag, err)
	}
	return d, nil
}

// inWords writes whole days as such.
func inWords(d time.Duration) string {
	switch {
	case d == 0:
		return "0 days"
	case d%day == 0:
		return ui.Count(int(d/day), "day")
	case d%time.Hour == 0:
		return ui.Count(int(d/time.Hour), "hour")
	}
	return d.String()
}
