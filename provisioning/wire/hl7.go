package wire

import "strings"

// Behind says what happens to the messages behind one that was refused for good.
type Behind string

// The choices.
const (
	// Skip lets them pass it; the refused one waits for an operator. It is what an empty Behind means.
	Skip Behind = "skip"
	// Stop keeps their order: they wait until an operator has decided.
	Stop Behind = "stop"
)

// FolderTarget begins a Target that is a folder on the Site's own gateway instead of a host and port: "folder:results".
const FolderTarget = "folder:"

// HL7Options are the options of an HL7 Service. The zero value is what most need.
type HL7Options struct {
	// Types are the message types the Service takes, "ORU" or "ORU^R01" (MSH-9), sorted, with commas between; empty for all.
	Types string `json:"types,omitempty"`
	// Copy makes the Service take what it matches in addition to the Service that is meant. It collides with no other.
	Copy bool `json:"copy,omitempty"`
	// Behind says what happens behind a refused message of a queued Service.
	Behind Behind `json:"behind,omitempty"`
	// Retries is how often a queued message is tried again after an answer AE or CE; 0 leaves it to the gateway.
	Retries int `json:"retries,omitempty"`
	// Acks makes the Service the return route of its Site: acknowledgments of messages that the Site sent and that were answered by its
	// gateway are delivered to it, by Receiver.
	Acks bool `json:"acks,omitempty"`
	// CommitSender means that the senders use commit acknowledgments (MLLP, release 2), CommitTarget that the Service does.
	CommitSender bool `json:"commit_sender,omitempty"`
	CommitTarget bool `json:"commit_target,omitempty"`
	// AckTimeout is how long the application may take to answer, in seconds; 0 leaves it to the gateway.
	AckTimeout int `json:"ack_timeout,omitempty"`
	// UrgentStat lets queued messages whose order has the priority S (stat) or A (as soon as possible) pass others.
	UrgentStat bool `json:"urgent_stat,omitempty"`
	// GDT makes files in a folder records of that interface. Only a Service that is a folder has it.
	GDT GDTOptions `json:"gdt,omitzero"`
}

// GDTOptions are how results become records of the German GDT interface, version 2.1. The zero value means that they do not.
type GDTOptions struct {
	// Receiver and Sender are GDT-IDs (fields 8315 and 8316). Receiver is set if anything is; an empty Sender is the gateway's own choice.
	Receiver string `json:"receiver,omitempty"`
	Sender   string `json:"sender,omitempty"`
	// Procedure is the kind of examination (field 8402); empty leaves it to the gateway.
	Procedure string `json:"procedure,omitempty"`
	// Charset is field 9206: 2 for IBM code page 437, 3 for ISO 8859-1; 0 leaves it to the gateway.
	Charset int `json:"charset,omitempty"`
}

// TypeList returns the message types one by one; none for all.
func (o HL7Options) TypeList() []string {
	if o.Types == "" {
		return nil
	}
	return strings.Split(o.Types, ",")
}
