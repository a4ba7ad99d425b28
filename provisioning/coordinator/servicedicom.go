package coordinator

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/wire"
)

// sortedDICOM puts the lists of options in their order, each entry once.
func sortedDICOM(o wire.DICOMOptions) wire.DICOMOptions {
	sorted := func(list string) string {
		l := o.Split(list)
		slices.Sort(l)
		return strings.Join(slices.Compact(l), `\`)
	}
	o.Callers, o.Sources, o.Classes = sorted(o.Callers), sorted(o.Sources), sorted(o.Classes)
	o.UrgentCallers, o.UrgentClasses = sorted(o.UrgentCallers), sorted(o.UrgentClasses)
	return o
}

// SetServiceDICOM changes the options of a DICOM Service. Gateways take them up without ending an association.
func (c *Coordinator) SetServiceDICOM(ctx context.Context, actor, service string, o wire.DICOMOptions) error {
	return c.change(ctx, actor, "service.options", func(tx store.Tx) (string, string, error) {
		v, err := serviceNamed(tx, service)
		if err != nil {
			return "", "", err
		}
		if v.Protocol != wire.DICOM {
			return "", "", provisioning.Errorf(provisioning.Invalid, "service %s speaks no DICOM", v.Name).WithHint("these options are for DICOM services")
		}
		v.DICOM = sortedDICOM(o)
		if err := v.Validate(); err != nil {
			return "", "", err
		}
		if err := tx.Services().Configure(v); err != nil {
			return "", "", fmt.Errorf("store the options: %w", err)
		}
		return v.Name, fmt.Sprintf("%+v", v.DICOM), nil
	})
}

// archiveOf returns the newest report of the archive behind a Service; nil for none.
func archiveOf(nodes []provisioning.Node, v provisioning.Service) *wire.ArchiveFacts {
	var newest *wire.ArchiveFacts
	for _, n := range nodes {
		for _, a := range n.Facts.Archives {
			if n.Site == v.Site && a.Service == v.Name && (newest == nil || a.Probed.After(newest.Probed)) {
				newest = &a
			}
		}
	}
	return newest
}
