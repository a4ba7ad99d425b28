// Package reconcile turns a NetMap and the box's own facts into what has to run (Compile, pure), and makes it run (Runner, which
// starts, keeps and stops by difference, so that what did not change is not disturbed).
//
// It never talks to the coordinator, parses no protocol and allocates no address. What it cannot make true it names in a Condition
// and tries again; the rest works meanwhile.
//
// State: a Runner owns the device's configuration, the running listeners and the running deliveries. Nothing is persisted here.
package reconcile
