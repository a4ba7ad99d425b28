// Package wire is the contract between coordinator and node, and the only package both sides share: the NetMap and its signature,
// the enrolment token and its sealed exchange, the control messages.
//
// It has no I/O, knows no database and no device, and changes only by adding: Format numbers the contract and the list beside it says
// what each number added. A reader ignores what it does not know and refuses a Format above its own.
//
// State: none.
package wire
