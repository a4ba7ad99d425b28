package wire

// QueueOptions bound what the queue of a queued Service may hold on each gateway that sends to it, so that a receiver that is away does not
// take the space of others. Zero leaves it to the gateway.
type QueueOptions struct {
	// MaxBytes is on disk, MaxItems in objects or messages.
	MaxBytes int64 `json:"max_bytes,omitempty"`
	MaxItems int   `json:"max_items,omitempty"`
}
