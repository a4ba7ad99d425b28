// Package prove shows from an export alone that a network is what it promises: that no two ranges overlap, that what each Node is told
// fits what all others are told, that every grant works, and that no two clinics can meet.
//
// It believes neither the database nor the compiler of the maps: it reads the plan, the facts and the finished NetMaps, and holds each
// against the others. A proof is a Certificate, the opposite one CounterExample in words for everything that is wrong.
//
// It is pure: no I/O, no clock, no database, no logger. It never repairs anything, and it says nothing about what no map shows:
// Certificate.Assumed lists that. When a map was issued, its generation and the endpoints in it are not part of the proof.
//
// State: a Prover remembers what it was given and what it has shown, so that a change costs as much as what it touches. It belongs to
// one goroutine at a time.
package prove
