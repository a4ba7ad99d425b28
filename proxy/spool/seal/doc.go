// Package seal is how a queue is encrypted at rest. Nothing here touches a file.
//
// A queue has a key pair (HPKE, RFC 9180, with the hybrid KEM MLKEM768-X25519, so that what is copied today stays closed to tomorrow's
// computers). What seals needs the public half only. Public-key operations are dear and items are many, so what is sealed to the public
// half is an Epoch: a data key of 32 random bytes that lives about an hour. From it HKDF (RFC 5869) derives one key for each item, with the
// item's ID. When the last item of an Epoch is gone the Epoch is forgotten, too: then also the private half opens nothing of that hour.
//
// A payload is cut in segments of 64 KiB, each under AES-256-GCM, with a nonce that holds the segment's number and whether it is the last
// (the STREAM construction: Hoang, Reyhanitabar, Rogaway, Vizár, CRYPTO 2015). Segments that are swapped, cut off or appended to are noticed,
// memory is bounded, and reading can begin at any segment. Each key seals one item once, so no nonce comes twice.
package seal
