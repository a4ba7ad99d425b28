// Package netstack is a tunnel backend that needs no privileges: wireguard-go over UDP, and gVisor's TCP/IP stack instead of a kernel
// interface. Only this process can reach the tunnel, and nothing that it opens here can leave any other way.
//
// The stack speaks TCP, and answers pings; every other packet is dropped. It never forwards, never resolves names and never touches
// the host's network configuration.
//
// State: a Device owns its sessions, connections and listeners; closing it ends them all. Nothing is persisted.
package netstack
