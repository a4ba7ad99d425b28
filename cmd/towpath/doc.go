// Command towpath is the one binary: coordinator, gateway and the tools of operators and technicians.
//
// Commands are thin. This folder turns arguments and files into constructors, wires every role (coordinator.go, gateway.go), and maps
// errors to words and exit codes; rules live in the packages it calls.
//
// State: none of its own. Each role's state directory is opened here and owned by the package that defines it.
package main
