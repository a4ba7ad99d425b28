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
	UrgentStat   bool     `json:"urgent_stat,omitempty" doc:"messages with the priority stat or as soon as possible pass others"`
	GDT          *GDT     `json:"gdt,omitempty" doc:"results become GDT 2.1 records in the folder"`
}

// GDT are options of a folder whose files are GDT records.
type GDT struct {
	Receiver  string `json:"receiver" doc:"GDT-ID of the practice software (field 8315)" example:"PRAX_EDV"`
	Sender    string `json:"sender,omitempty" doc:"our own GDT-ID (field 8316); TOWPATH if absent"`
	Procedure string `json:"procedure,omitempty" doc:"kind of examination (field 8402); ALLG00 if absent" example:"EKG01"`
	Charset   int    `json:"charset,omitempty" doc:"field 9206: 2 for IBM code page 437, 3 (if absent) for ISO 8859-1"`
}

func gdtView(o wire.GDTOptions) *GDT {
	if o == (wire.GDTOptions{}) {
		return nil
	}
	return &GDT{Receiver: o.Receiver, Sender: o.Sender, Procedure: o.Procedure, Charset: o.Charset}
}

func (v *GDT) options() wire.GDTOptions {
	if v == nil {
		return wire.GDTOptions{}
	}
	return wire.GDTOptions{Receiver: v.Receiver, Sender: v.Sender, Procedure: v.Procedure, Charset: v.Charset}
}

func hl7View(o wire.HL7Options) *HL7Options {
	if o == (wire.HL7Options{}) {
		return nil
	}
	return &HL7Options{
		Types: o.TypeList(), Copy: o.Copy, Behind: string(o.Behind), Retries: o.Retries, Acks: o.Acks,
		CommitSender: o.CommitSender, CommitTarget: o.CommitTarget, AckTimeout: o.AckTimeout, UrgentStat: o.UrgentStat, GDT: gdtView(o.GDT),
	}
}

func (v *HL7Options) options() wire.HL7Options {
	if v == nil {
		return wire.HL7Options{}
	}
	return wire.HL7Options{
		Types: strings.Join(v.Types, ","), Copy: v.Copy, Behind: wire.Behind(v.Behind), Retries: v.Retries, Acks: v.Acks,
		CommitSender: v.CommitSender, CommitTarget: v.CommitTarget, AckTimeout: v.AckTimeout, UrgentStat: v.UrgentStat, GDT: v.GDT.options(),
	}
}
