package wire

// PathSizes is where a Node finds out how large packets may be, by POST: as many bytes come back as were sent, all of them zero. It is part of the
// control API inside WireGuard. An older coordinator does not have it.
const PathSizes = "/v1/sizes"

// MaxSizes is the most that is sent back, in bytes.
const MaxSizes = 16 << 10
