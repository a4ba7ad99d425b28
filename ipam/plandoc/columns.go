package plandoc

import "strings"

// column is what a column of a spreadsheet holds.
type column int

const (
	colNone column = iota
	colSite
	colRange
	colMask
	colComment
	colKind
	colPurpose
	colLabel
	colMaps
	colUntil
	colCount
)

// columns has the number of the cell for each column, counted from 1; 0 for none.
type columns [colCount]int

// columnsOf reads the first line, and whether it names columns.
func columnsOf(record []string) (columns, bool) {
	var c columns
	named := false
	for i, cell := range record {
		if k := columnNamed(cell); k != colNone && c[k] == 0 {
			c[k], named = i+1, true
		}
	}
	isRange := func(i int) bool {
		if i >= len(record) {
			return false
		}
		_, err := ParseRange(record[i])
		return err == nil
	}
	hasRange := false
	for i := range record {
		hasRange = hasRange || isRange(i)
	}
	switch {
	case named && !hasRange:
		return c, true
	case isRange(0) && !isRange(1):
		return columns{colRange: 1, colSite: 2, colComment: 3, colKind: 4, colUntil: 5}, false
	}
	return columns{colSite: 1, colRange: 2, colComment: 3, colKind: 4, colUntil: 5}, false
}

// row picks the cells of a line.
func (c columns) row(record []string, line int) row {
	cell := func(k column) string {
		if c[k] == 0 || c[k] > len(record) {
			return ""
		}
		return strings.TrimSpace(record[c[k]-1])
	}
	r := row{
		line: line, site: unguard(cell(colSite)), span: cell(colRange), kind: cell(colKind), purpose: unguard(cell(colPurpose)),
		label: unguard(cell(colLabel)), maps: cell(colMaps), comment: unguard(cell(colComment)), until: cell(colUntil),
	}
	if m := cell(colMask); m != "" && !strings.ContainsAny(r.span, "/ -") {
		r.span += "/" + strings.TrimPrefix(m, "/")
	}
	return r
}

// columnNamed recognizes the heading of a column.
func columnNamed(s string) column {
	s = strings.Map(func(r rune) rune {
		if strings.ContainsRune(" \t\u00a0-_:*./()\"", r) {
			return -1
		}
		return r
	}, strings.ToLower(clean(s)))
	switch s {
	case "site", "sitename", "name", "owner", "clinic", "praxis", "klinik", "standort", "einrichtung", "kunde", "besitzer", "location":
		return colSite
	case "range", "iprange", "prefix", "network", "net", "subnet", "cidr", "netz", "netzwerk", "subnetz", "bereich", "ipbereich",
		"adressbereich", "ip", "ipadresse", "adresse", "address":
		return colRange
	case "mask", "netmask", "subnetmask", "maske", "netzmaske", "subnetzmaske", "subnetmaske":
		return colMask
	case "comment", "comments", "note", "notes", "remark", "remarks", "description", "kommentar", "bemerkung", "bemerkungen", "notiz",
		"beschreibung", "anmerkung", "hinweis":
		return colComment
	case "kind", "type", "art", "typ":
		return colKind
	case "purpose", "use", "role", "zweck", "verwendung", "nutzung":
		return colPurpose
	case "label", "tag", "kennung", "etikett", "bezeichnung":
		return colLabel
	case "maps", "maplan", "mappedlan", "mapslan", "mapsto", "standsfor", "bildetab", "abbildung", "abgebildet", "abgebildeteslan", "lannetz",
		"stehtfür", "stehtfuer":
		return colMaps
	case "until", "expires", "expiry", "end", "bis", "gültigbis", "gueltigbis", "ende", "ablauf":
		return colUntil
	}
	return colNone
}
