package adminapi

import "github.com/towpath/towpath/provisioning/wire"

// QueueOptions bound the queues of a queued Service.
type QueueOptions struct {
	MaxBytes int64 `json:"max_bytes,omitempty" doc:"bytes on disk; as many as there are if absent"`
	MaxItems int   `json:"max_items,omitempty" doc:"objects or messages; as many as there are if absent"`
}

func queueView(o wire.QueueOptions) *QueueOptions {
	if o == (wire.QueueOptions{}) {
		return nil
	}
	return &QueueOptions{MaxBytes: o.MaxBytes, MaxItems: o.MaxItems}
}

func (v *QueueOptions) options() wire.QueueOptions {
	if v == nil {
		return wire.QueueOptions{}
	}
	return wire.QueueOptions{MaxBytes: v.MaxBytes, MaxItems: v.MaxItems}
}
