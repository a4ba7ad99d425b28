// Package sqlite is the store.Store of a coordinator without a database server: one file in SQLite's WAL mode, every commit synced.
//
// Writers take turns on one connection (BEGIN IMMEDIATE), readers have a few of their own and see the last commit as of their start.
// The rules of the address plan, of uniqueness and of the audit chain are triggers and constraints in schema/*.sql, so they hold for
// whoever writes to the file. Watchers are woken for commits of the same Store only: one process serves a file.
//
// It decides nothing that the schema does not, and caches nothing but the generation.
//
// State: the file, its -wal and its -shm, readable by their owner only.
package sqlite
