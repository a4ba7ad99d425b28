package mllp

// The content of a commit acknowledgment (MLLP, release 2): a frame that says whether the one before it is in safe storage.
const (
	Committed    = 0x06
	NotCommitted = 0x15
)

// IsCommit reports whether content is a commit acknowledgment, and which.
func IsCommit(content []byte) (committed, is bool) {
	if len(content) != 1 {
		return false, false
	}
	return content[0] == Committed, content[0] == Committed || content[0] == NotCommitted
}
