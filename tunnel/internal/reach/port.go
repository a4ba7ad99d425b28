package reach

import (
	"errors"
	"fmt"
	"syscall"
)

// PortError says why a device cannot have its UDP port, and what to do about it.
func PortError(port uint16, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("UDP port %d is used by another program: stop that one or configure another listen port (0 takes a free one): %w",
			port, err)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("this process may not use UDP port %d: configure a listen port above 1023: %w", port, err)
	}
	return fmt.Errorf("open UDP port %d: %w", port, err)
}
