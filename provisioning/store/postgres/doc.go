// Package postgres is the store.Store of coordinators that share a PostgreSQL server, version 13 or later: several replicas may serve
// one network.
//
// Everything is in the schema "towpath" of the database, which Open makes and brings up to date under a lock, so that replicas may start
// at once. The role needs the right to create schemas in its database and no extension. Writers of all replicas take turns on the row of
// the network, so that what an Update reads stays true until it commits; the rules of the address plan, of uniqueness and of the audit
// chain are constraints and triggers in schema/*.sql and hold for whoever else writes. A notification with the generation wakes the
// watchers of every replica; a sweep repairs those that were lost.
//
// Each Store has up to seven connections: two that write, four that read, one that listens. LISTEN needs a session, so a pooler between
// must not be in transaction mode.
//
// It decides nothing that the schema does not, and caches nothing but the generation.
//
// State: the database.
package postgres
