package mllp

import (
	"bytes"
	"errors"
)

// ErrContent means that a message cannot be framed because it holds what ends a frame, or begins another.
var ErrContent = errors.New("the message holds an MLLP end or start of frame")

// Append appends a whole frame to dst. Write it with one call: some receivers read only once.
func Append(dst, content []byte) ([]byte, error) {
	if bytes.Contains(content, []byte{EndBlock, CarriageReturn}) || bytes.Contains(content, []byte{EndBlock, StartBlock}) || restarts(content) {
		return dst, ErrContent
	}
	if dst == nil {
		dst = make([]byte, 0, len(content)+3)
	}
	dst = append(dst, StartBlock)
	dst = append(dst, content...)
	return append(dst, EndBlock, CarriageReturn), nil
}

// restarts reports whether a receiver would take content for a fragment and another message.
func restarts(content []byte) bool {
	for {
		at := bytes.IndexByte(content, StartBlock)
		if at < 0 {
			return false
		}
		content = content[at+1:]
		if begins, _ := beginsMessage(content); begins {
			return true
		}
	}
}
