package coordinator

import (
	"net/netip"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/wire"
)

// Limits of what a box tells of itself, in bytes of UTF-8 and in entries. What is beyond is cut, because a report about a box in
// trouble must not be lost for being long.
const (
	maxShort      = 64
	maxLong       = 512
	maxPrefixes   = 32
	maxConditions = 64
	maxQueues     = 256
	maxArchives   = 64
	maxCalled     = 64
)

// clean makes a foreign string fit to be stored and shown: valid UTF-8, without control characters, at most limit bytes.
func clean(s string, limit int) string {
	if len(s) > 4*limit {
		s = s[:4*limit]
	}
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\n', r == '\t', r == '\r':
			return ' '
		case r == utf8.RuneError, !unicode.IsPrint(r):
			return -1
		}
		return r
	}, s)
	if len(s) > limit {
		s = s[:limit]
		for len(s) > 0 && !utf8.ValidString(s) {
			s = s[:len(s)-1]
		}
	}
	return strings.TrimSpace(s)
}

func cleanFacts(f wire.Facts) wire.Facts {
	out := wire.Facts{
		Hostname: clean(f.Hostname, maxShort),
		Serial:   clean(f.Serial, maxShort),
		Model:    clean(f.Model, maxShort),
		Version:  clean(f.Version, maxShort),
	}
	out.LANs, out.WANs, out.Containers = cleanPrefixes(f.LANs), cleanPrefixes(f.WANs), cleanPrefixes(f.Containers)
	out.LANTLS = cleanLANReport(f.LANTLS)
	for _, a := range f.Archives[:min(len(f.Archives), maxArchives)] {
		out.Archives = append(out.Archives, wire.ArchiveFacts{
			Service: clean(a.Service, maxShort), Probed: a.Probed.UTC(), Software: clean(a.Software, maxShort),
			Classes: max(a.Classes, 0), Pairs: max(a.Pairs, 0), Problem: clean(a.Problem, maxLong),
		})
	}
	out.Devices = cleanDevices(f.Devices)
	out.PairKeys = f.PairKeys
	return out
}

func cleanPrefixes(prefixes []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range prefixes {
		if len(out) == maxPrefixes {
			break
		}
		if p.IsValid() && p.Addr().Zone() == "" && !p.Addr().Is4In6() && !slices.Contains(out, p.Masked()) {
			out = append(out, p.Masked())
		}
	}
	return out
}

// cleanReport copies what may be stored of r onto n.
func cleanReport(n *provisioning.Node, r wire.Report) {
	n.Applied = r.Applied
	n.ApplyError = clean(r.ApplyError, maxLong)
	n.Facts = cleanFacts(r.Facts)
	n.Conditions, n.Queues = nil, nil
	for _, c := range r.Conditions[:min(len(r.Conditions), maxConditions)] {
		severity := c.Severity
		if severity != "info" && severity != "error" {
			severity = "warning"
		}
		n.Conditions = append(n.Conditions, wire.Condition{
			Code: clean(c.Code, maxShort), Severity: severity, Message: clean(c.Message, maxLong), Since: c.Since.UTC(),
		})
	}
	for _, q := range r.Queues[:min(len(r.Queues), maxQueues)] {
		q.Name = clean(q.Name, maxShort)
		q.Queued, q.Parked, q.Carried, q.Bytes = max(q.Queued, 0), max(q.Parked, 0), max(q.Carried, 0), max(q.Bytes, 0)
		n.Queues = append(n.Queues, q)
	}
}
