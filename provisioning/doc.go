// Package provisioning holds the coordinator's nouns (Site, Node, Token, Service, Grant, Event) and the rules that make one of them
// valid by itself, with errors written for an operator.
//
// It never touches packets, netlink, SQL or HTTP. Rules that need several nouns at once are in provisioning/coordinator, the database
// is behind provisioning/store.
//
// State: none.
package provisioning
