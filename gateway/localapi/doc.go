// Package localapi is how a person or a program on the box asks the running gateway: JSON over a unix socket that only the
// gateway's user and root may open.
//
// It decides nothing and shows no patient data: names of services and AE titles, counts, states and Conditions.
//
// State: none; every answer is a fresh snapshot by the gateway.
package localapi
