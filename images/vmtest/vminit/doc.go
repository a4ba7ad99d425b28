// Command vminit is process 1 of a test VM, and all there is in it besides the kernel: it loads the modules, runs the test program with
// the arguments that package main of images/vmtest packed, and turns the machine off.
//
// The kernel's own messages are on the first serial line, what the tests say is on the second, and the third gets "exit CODE" and a line
// feed, followed by the coverage profile if there is one. A machine that goes away without that has crashed.
//
// State: none.
package main
