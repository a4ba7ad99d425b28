// Package coordinator holds the use cases of the network: everything an operator, a box or the hub can ask for, as one method each.
// Every rule that needs more than one noun is here, every change is one transaction together with its audit event, and every refusal is a
// *provisioning.Error with words for a person.
//
// It never speaks HTTP, SQL or WireGuard, and calls nobody back: nodes and the hub watch the generation. While nodes watch, one goroutine of its
// own waits for the next one and wakes those whom it concerns.
//
// State: the store's. In memory it keeps only what can be lost: the compiled picture of the newest generation and the one before, when
// each node's map last changed and how far the node is, the large maps that were sent last, who is watching, and failed enrolments per remote
// address.
package coordinator
