// Package proxy holds what every clinical proxy shares: the Network it may use, the Handler that serves one connection, and the
// Server that owns accept loops, limits, panics, deadlines and accounting so that no protocol package has to.
//
// It never dials or listens by itself (the caller passes the Networks), never knows tunnels, routes or the coordinator, and never
// puts patient data in a log, metric or error.
//
// State: a Server owns its open connections and their Session records. Nothing here is persisted; durable queues are proxy/spool's.
package proxy
