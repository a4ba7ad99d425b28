package provisioning

import "github.com/towpath/towpath/provisioning/wire"

// minQueueBytes lets a queue hold at least a large object.
const minQueueBytes = 16 << 20

func (s Service) checkQueue() error {
	switch o := s.Queue; {
	case o == (wire.QueueOptions{}):
		return nil
	case s.Mode != wire.Queued:
		return Errorf(Invalid, "only a queued service has queues to be bounded").WithHint("leave the bounds out, or choose the mode %q", wire.Queued)
	case o.MaxItems < 0:
		return Errorf(Invalid, "a queue cannot hold %d items", o.MaxItems).WithHint("give a number from 1, or 0 for no bound")
	case o.MaxBytes != 0 && o.MaxBytes < minQueueBytes:
		return Errorf(Invalid, "a queue of %d bytes is too small for a study", o.MaxBytes).WithHint("give at least %d, or 0 for no bound", minQueueBytes)
	}
	return nil
}
