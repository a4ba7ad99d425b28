// Package pgtest gives tests a PostgreSQL of their own: a private cluster for each test binary, started from the installed programs, on
// a Unix socket only, with a fresh database for each caller.
//
// It never touches a server that is running already, and it never needs one.
//
// State: a directory for temporary files and a server process, which end with the test binary however that ends.
package pgtest
