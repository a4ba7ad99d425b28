// Package box finds out what machine this is: its serial, model and networks, and which tunnel backend fits it.
//
// It changes nothing on the machine.
//
// State: none.
package box
