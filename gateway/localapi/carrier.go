package localapi

import "time"

// Carrier is how packets go where a network lets no UDP out.
type Carrier struct {
	// Carried says that they go over TCP, Since when and How.
	Carried bool      `json:"carried"`
	Since   time.Time `json:"since,omitzero"`
	How     string    `json:"how,omitempty"`
	// Problem is why nothing is carried although UDP is not answered.
	Problem string `json:"problem,omitempty"`
	// Dropped are packets that waited too long.
	Dropped uint64 `json:"dropped,omitempty"`
}
