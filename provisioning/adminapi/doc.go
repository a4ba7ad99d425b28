// Package adminapi is the operator's JSON API over HTTP, described by OpenAPI 3.1 at /openapi.json, and its typed Client.
//
// It holds no rule of the network: it decodes, calls the coordinator and encodes its own view types, so that the store's nouns can change
// without the API. It does not authenticate: the listener decides who reaches it (in the first cut a socket file that only the
// coordinator's user may open), and the caller of Handler names the actor.
//
// State: none.
package adminapi
