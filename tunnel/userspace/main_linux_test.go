package userspace_test

import (
	"testing"

	"go.uber.org/goleak"
)

// A closed device leaves no goroutine behind.
func TestMain(m *testing.M) {
	runEnd()
	goleak.VerifyTestMain(m)
}
