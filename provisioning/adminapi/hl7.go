package adminapi

import (
	"strings"

	"github.com/towpath/towpath/provisioning/wire"
)

// HL7Options are the options of an HL7 Service.
type HL7Options struct {
	Types        []string `json:"types,omitempty" nullable:"false" doc:"message types it takes (MSH-9), all if absent" example:"ORU^R01"`
	Copy         bool     `json:"copy,omitempty" doc:"it takes what it matches in addition to the service that is meant"`
	Behind       string   `json:"behind,omitempty" doc:"what happens behind a refused message: skip (if absent) or stop"`
	Retries      int      `json:"retries,omitempty" doc:"how often a message is tried again after AE or CE; the gateway's own number if absent"`
	Acks         bool     `json:"acks,omitempty" doc:"return route: acknowledgments of what its site sent are delivered to it"`
	CommitSender bool     `json:"commit_sender,omitempty" doc:"senders use commit acknowledgments (MLLP, release 2)"`
	CommitTarget bool     `json:"commit_target,omitempty" doc:"the application uses commit acknowledgments (MLLP, release 2)"`
	AckTimeout   int      `json:"ack_timeout,omitempty" doc:"seconds that the application may take to answer; the gateway's own time if absent"`
}

func hl7View(o wire.HL7Options) *HL7Options {
	if o == (wire.HL7Options{}) {
		return nil
	}
	return &HL7Options{
		Types: o.TypeList(), Copy: o.Copy, Behind: string(o.Behind), Retries: o.Retries, Acks: o.Acks,
		CommitSender: o.CommitSender, CommitTarget: o.CommitTarget, AckTimeout: o.AckTimeout,
	}
}

func (v *HL7Options) options() wire.HL7Options {
	if v == nil {
		return wire.HL7Options{}
	}
	return wire.HL7Options{
		Types: strings.Join(v.Types, ","), Copy: v.Copy, Behind: wire.Behind(v.Behind), Retries: v.Retries, Acks: v.Acks,
		CommitSender: v.CommitSender, CommitTarget: v.CommitTarget, AckTimeout: v.AckTimeout,
	}
}
