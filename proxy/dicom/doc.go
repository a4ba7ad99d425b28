// Package dicom is what this product does with DICOM: it takes objects from modalities into the spool and delivers them from
// there (store and forward), passes everything else through unchanged (queries, worklist, C-GET, storage commitment), and brings
// the small tools a technician needs: an echo, a sender of files, and an archive that keeps what it receives.
//
//	modality --C-STORE--> Router --queued route-------> spool --> Sink --C-STORE--> archive
//	         --C-FIND...-> Router --pass-through route--bytes both ways-----------> archive
//
// The layers below are proxy/dicom/pdu (bytes), ul (associations) and dimse (commands). Data sets are never parsed, changed or
// held in memory: their bytes go from the peer to the disk and back as they came.
//
// The package never dials or listens but through a proxy.Network, and never puts patient data, object UIDs included, into a log, a
// Result or an error that can be logged.
//
// Each object has its effect at the archive once: what is in doubt after a broken association or a restart is asked for before it is
// sent again. The way of an object is the pure state machine of deliveryState; what must survive is in the Ledger.
//
// State: a Router and an Archive are stateless between connections; a Sink owns at most one open association, for storing or for asking,
// and what it knows is in its Ledger, within stated bounds.
package dicom
