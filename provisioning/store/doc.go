// Package store says what the coordinator needs of a database, in small groups of plain queries, and storetest holds the contract
// that every engine passes.
//
// No rules live here and nothing is cached. Overlap of address ranges is the exception: the database itself refuses it, whatever the
// code above believes.
//
// State: the database.
package store
