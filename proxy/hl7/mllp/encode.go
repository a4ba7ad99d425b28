package mllp

import (
	"bytes"
	"errors"
)

// ErrContent means that a message cannot be framed because it holds what ends a frame.
var ErrContent = errors.New("the message holds an MLLP end of frame")

// Append appends a whole frame to dst. Write it with one call: some receivers read only once.
func Append(dst, content []byte) ([]byte, error) {
	if bytes.Contains(content, []byte{EndBlock, CarriageReturn}) || bytes.Contains(content, []byte{EndBlock, StartBlock}) {
		return dst, ErrContent
	}
	if dst == nil {
		dst = make([]byte, 0, len(content)+3)
	}
	dst = append(dst, StartBlock)
	dst = append(dst, content...)
	return append(dst, EndBlock, CarriageReturn), nil
}
