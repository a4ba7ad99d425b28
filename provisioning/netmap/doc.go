// Package netmap compiles what one Node has to know from one picture of the whole network. It is where default deny is decided: what no
// grant asks for appears in no map.
//
// It is pure: no I/O, no clock, no database, no logger. One broken object never spoils the map of a Node it does not concern: it is left
// out and named in Index.Omissions.
//
// State: none. A Snapshot is read, never kept apart from the Index built of it.
package netmap
